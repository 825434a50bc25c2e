/* Handwritten digits. digits.csv has a row of 64 grey values from 0 to 16 and the digit; scikit-learn writes it:
 * python -c "import sklearn.datasets as d, numpy as np; x, y = d.load_digits(return_X_y=True)
 * np.savetxt('digits.csv', np.c_[x, y], '%g', ',')" */
#include <microbp.h>
#include <stdio.h>

enum { ROWS = 1797, TRAINING = 1440 };

int main(void) {
    static float x[ROWS][64];
    static int64_t digit[ROWS];
    FILE *file = fopen("digits.csv", "r");
    for (int row = 0; file && row < ROWS; row++) {
        for (int pixel = 0; pixel < 64; pixel++)
            if (fscanf(file, "%f,", &x[row][pixel]) != 1)
                return puts("digits.csv is not as expected"), 1;
        fscanf(file, "%ld", &digit[row]);
    }
    mbp_array in = mbp_f32(x[0], TRAINING, 64), labels = mbp_labels(digit, TRAINING);
    mbp_array test_in = mbp_f32(x[TRAINING], ROWS - TRAINING, 64),
              test_labels = mbp_labels(digit + TRAINING, ROWS - TRAINING);
    mbp_batch data = mbp_batch_of(&in, &labels), test = mbp_batch_of(&test_in, &test_labels);
    mbp_fit how = {.size = sizeof how, .epochs = 30, .validation = &test};
    const char *graph = "input 64\ndense 0 units=64 activation=relu\ndense 1 units=10\noutput 2\n";
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error;
    double accuracy;
    if (!file || mbp_net_create(&net, graph, NULL, &error) ||
        mbp_trainer_create(&trainer, net, (const char *[]){"cross_entropy"}, NULL, 1, "adam", &error) ||
        mbp_trainer_fit(trainer, &data, &how, NULL, &error) ||
        mbp_trainer_measure(trainer, &test, 0, "accuracy", &accuracy, &error))
        return puts(file ? error.text : "digits.csv is missing"), 1;
    printf("%.3f of the test rows are right\n", accuracy);
}
