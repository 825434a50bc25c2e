/* Actor-critic (Sutton & Barto 2018, section 13.5) in the corridor of qlearning.c: one network gives the policy and the
 * value of a cell. Its loss is the program's own: forward, the gradient of the outputs, backward_from, apply. */
#include <math.h>
#include <microbp.h>
#include <stdio.h>
#include <stdlib.h>

enum { CELLS = 8 };
static const char graph[] =
    "input 8\ndense 0 units=16 activation=tanh\ndense 1 units=1\ndense 1 units=1\noutput 2\noutput 3\n";

int main(void) {
    float s[CELLS] = {0}, next[CELLS] = {0}, logit = 0, value = 0, value_next = 0, d_logit = 0, d_value = 0;
    mbp_array here = mbp_row(s, CELLS), there = mbp_row(next, CELLS);
    mbp_array at[2] = {mbp_row(&logit, 1), mbp_row(&value, 1)},
              after[2] = {mbp_row(&logit, 1), mbp_row(&value_next, 1)};
    mbp_array gradient[2] = {mbp_row(&d_logit, 1), mbp_row(&d_value, 1)};
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error;
    if (mbp_net_create(&net, graph, NULL, &error) ||
        mbp_trainer_create(&trainer, net, (const char *[]){NULL, NULL}, NULL, 2, "adam(lr=0.01)", &error))
        return puts(error.text), 1;
    for (int episode = 0, cell = 0; episode < 300; episode++, cell = 0)
        for (int move, to; cell < CELLS - 1; s[cell] = next[to] = 0, cell = to) {
            s[cell] = 1;
            mbp_net_predict(net, &here, 1, at, 2, 1, -1, NULL);
            const float right = 1 / (1 + expf(-logit)); /* the probability of a move to the right */
            move = (float)rand() < right * (float)RAND_MAX;
            to = move ? cell + 1 : cell - (cell > 0);
            next[to] = 1;
            mbp_net_predict(net, &there, 1, after, 2, 1, -1, NULL);
            const float better = -1 + (to == CELLS - 1 ? 0 : value_next) - value; /* than the critic expected */
            d_logit = better * (right - (float)move), d_value = -better;
            if (mbp_trainer_forward(trainer, &here, 1, &error) ||
                mbp_trainer_backward_from(trainer, gradient, 2, NULL, &error) || mbp_trainer_apply(trainer, &error))
                return puts(error.text), 1;
        }
    s[0] = 1;
    mbp_net_predict(net, &here, 1, at, 2, 1, -1, NULL);
    printf("right with probability %.2f; value of the first cell %.1f\n", 1 / (1 + exp(-logit)), value);
    mbp_trainer_free(trainer);
    mbp_net_free(net);
}
