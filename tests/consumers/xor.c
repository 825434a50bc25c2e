/* Trains XOR, checks the predictions, and prints the last loss with all its bits. Valid C and C++. */
#include <microbp.h>
#include <stdio.h>

static int check(mbp_status status, const mbp_error *error) {
    if (status)
        fprintf(stderr, "xor: %s\n", error->text);
    return status != MBP_OK;
}

int main(void) {
    static const float x[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}}, y[4] = {0, 1, 1, 0};
    static const char *graph = "input 2\ndense 0 units=8 activation=tanh\ndense 1 units=1\noutput 2\n";
    const char *losses[] = {"bce"};
    float predictions[4] = {0, 0, 0, 0};
    mbp_array inputs = mbp_f32(x[0], 4, 2), targets = mbp_f32(y, 4, 1), outputs = mbp_f32(predictions, 4, 1);
    static mbp_batch batch; /* all fields 0 */
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error;
    double loss = 0;
    int step, row, failed;

    batch.size = sizeof batch;
    batch.x = &inputs;
    batch.n_x = 1;
    batch.y = &targets;
    batch.n_y = 1;
    failed = check(mbp_net_create(&net, graph, NULL, &error), &error) ||
             check(mbp_trainer_create(&trainer, net, losses, NULL, 1, "adam(lr=0.05)", &error), &error);
    for (step = 0; step < 300 && !failed; step++)
        failed = check(mbp_trainer_step(trainer, &batch, &loss, &error), &error);
    failed = failed || check(mbp_net_predict(net, &inputs, 1, &outputs, 1, 0, -1, &error), &error);
    for (row = 0; row < 4; row++)
        failed = failed || (predictions[row] > 0.5f) != (y[row] > 0.5f);
    mbp_trainer_free(trainer);
    mbp_net_free(net);
    printf("%s %.0f\n", failed ? "wrong" : "learnt", loss * 0x1p70); /* a whole number */
    return failed;
}
