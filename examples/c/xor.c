/* Learns XOR: two inputs, eight hidden units, one output. */
#include <microbp.h>
#include <stdio.h>

int main(void) {
    const float x[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}}, y[4] = {0, 1, 1, 0};
    float p[4];
    mbp_array in = mbp_f32(x[0], 4, 2), targets = mbp_f32(y, 4, 1), out = mbp_f32(p, 4, 1);
    mbp_batch data = mbp_batch_of(&in, &targets);
    mbp_fit how = {.size = sizeof how, .epochs = 500};
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error;
    if (mbp_net_create(&net, "input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n", NULL, &error) ||
        mbp_trainer_create(&trainer, net, (const char *[]){"bce"}, NULL, 1, "adam(lr=0.05)", &error) ||
        mbp_trainer_fit(trainer, &data, &how, NULL, &error) || mbp_net_predict(net, &in, 1, &out, 1, 0, -1, &error))
        return puts(error.text), 1;
    printf("%.2f %.2f %.2f %.2f\n", p[0], p[1], p[2], p[3]);
    mbp_trainer_free(trainer);
    mbp_net_free(net);
}
