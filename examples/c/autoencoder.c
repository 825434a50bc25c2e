/* An autoencoder: eight one-hot rows through a code of three numbers, and back (Rumelhart et al. 1986). */
#include <microbp.h>
#include <stdio.h>

int main(void) {
    float x[8][8] = {{0}}, code[8][3];
    mbp_array rows = mbp_f32(x[0], 8, 8), codes = mbp_f32(code[0], 8, 3);
    mbp_batch data = mbp_batch_of(&rows, &rows); /* the targets are the inputs */
    mbp_fit how = {.size = sizeof how, .epochs = 1000};
    mbp_record last = {.size = sizeof last};
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error;
    for (int i = 0; i < 8; i++)
        x[i][i] = 1;
    if (mbp_net_create(&net, "input 8\ndense 0 units=3 activation=sigmoid\ndense 1 units=8\noutput 2\n", NULL,
                       &error) ||
        mbp_trainer_create(&trainer, net, (const char *[]){"bce"}, NULL, 1, "adam(lr=0.05)", &error) ||
        mbp_trainer_fit(trainer, &data, &how, &last, &error) ||
        mbp_net_predict(net, &rows, 1, &codes, 1, 0, /* node: */ 1, &error))
        return puts(error.text), 1;
    printf("loss %.4f\n", last.loss);
    for (int i = 0; i < 8; i++)
        printf("%d: %.2f %.2f %.2f\n", i, code[i][0], code[i][1], code[i][2]);
    mbp_trainer_free(trainer);
    mbp_net_free(net);
}
