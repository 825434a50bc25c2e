/* Q-learning in a corridor of eight cells: each step costs 1, and the last cell ends the walk. */
#include <microbp.h>
#include <stdio.h>
#include <stdlib.h>

enum { CELLS = 8 };

int main(void) {
    float s[CELLS] = {0}, next[CELLS] = {0}, q[2], q_next[2];
    mbp_array here = mbp_row(s, CELLS), there = mbp_row(next, CELLS), at = mbp_row(q, 2), after = mbp_row(q_next, 2);
    mbp_batch batch = mbp_batch_of(&here, &at);
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error;
    double loss;
    if (mbp_net_create(&net, "input 8\ndense 0 units=16 activation=tanh\ndense 1 units=2\noutput 2\n", NULL, &error) ||
        mbp_trainer_create(&trainer, net, (const char *[]){"mse"}, NULL, 1, "adam(lr=0.01)", &error))
        return puts(error.text), 1;
    for (int episode = 0, cell = 0; episode < 300; episode++, cell = 0)
        for (int move, to; cell < CELLS - 1; cell = to) {
            s[cell] = 1;
            mbp_net_predict(net, &here, 1, &at, 1, 0, -1, NULL);
            move = rand() % 10 ? q[1] > q[0] : rand() % 2; /* 0: left, 1: right; one move in ten is random */
            to = move ? cell + 1 : cell - (cell > 0);
            next[to] = 1;
            mbp_net_predict(net, &there, 1, &after, 1, 0, -1, NULL);
            q[move] = to == CELLS - 1 ? -1 : -1 + (q_next[0] > q_next[1] ? q_next[0] : q_next[1]);
            if (mbp_trainer_step(trainer, &batch, &loss, &error))
                return puts(error.text), 1;
            s[cell] = next[to] = 0;
        }
    s[0] = 1;
    mbp_net_predict(net, &here, 1, &at, 1, 0, -1, NULL);
    printf("from the first cell: left %.1f, right %.1f; the way has 7 steps\n", q[0], q[1]);
    mbp_trainer_free(trainer);
    mbp_net_free(net);
}
