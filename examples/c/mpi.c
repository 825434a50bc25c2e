/* Learns x^2 on several processes, each with its own part of the rows: mpicc mpi.c ..., then mpiexec -n 2 ./mpi */
#include <microbp.h>
#include <mpi.h>
#include <stdio.h>

enum { ROWS = 256, MOST = 64 };

static MPI_Request begun[MOST]; /* as many blocks of 1 MB as the gradient may have */
static MPI_Status statuses[MOST];
static int count;

static int gather(const void *mine, void *all, int64_t bytes, void *user) {
    const MPI_Comm comm = *(MPI_Comm *)user;
    int rank;
    MPI_Comm_rank(comm, &rank);
    if (mine == (char *)all + rank * bytes)
        mine = MPI_IN_PLACE;
    return MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, comm);
}

static int swap(const void *mine, void *theirs, int64_t bytes, void *user) {
    return MPI_Alltoall(mine, (int)bytes, MPI_BYTE, theirs, (int)bytes, MPI_BYTE, *(MPI_Comm *)user);
}

static int begin(const void *mine, void *theirs, int64_t bytes, void *user) {
    if (count == MOST)
        return swap(mine, theirs, bytes, user);
    return MPI_Ialltoall(mine, (int)bytes, MPI_BYTE, theirs, (int)bytes, MPI_BYTE, *(MPI_Comm *)user, &begun[count++]);
}

static int finish(void *user) {
    const int all = count;
    (void)user;
    count = 0;
    return MPI_Waitall(all, begun, statuses);
}

int main(int argc, char **argv) {
    static float x[ROWS], y[ROWS];
    MPI_Comm comm = MPI_COMM_WORLD;
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    for (int i = 0; i < ROWS; i++) { /* row i of process r is row i * ranks + r of all */
        x[i] = (float)(2. * (i * ranks + rank) / (ROWS * ranks) - 1);
        y[i] = x[i] * x[i];
    }
    const mbp_array in = mbp_f32(x, ROWS, 1), targets = mbp_f32(y, ROWS, 1);
    const mbp_batch data = mbp_batch_of(&in, &targets);
    const mbp_reduce how = {.size = sizeof how,
                            .rank = rank,
                            .ranks = ranks,
                            .gather = gather,
                            .swap = swap,
                            .begin = begin,
                            .finish = finish,
                            .user = &comm};
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error;
    double loss = 1;
    /* the same seed in all processes: equal nets */
    int failed = mbp_net_create(&net, "input 1\ndense 0 units=32 activation=tanh\ndense 1 units=1\noutput 2\n", NULL,
                                &error) ||
                 mbp_trainer_create(&trainer, net, (const char *[]){"mse"}, NULL, 1, "adam(lr=0.01)", &error) ||
                 mbp_trainer_set_reduce(trainer, &how, &error);
    for (int i = 0; i < 500 && !failed; i++)
        failed = mbp_trainer_step(trainer, &data, &loss, &error) != MBP_OK;
    if (failed || rank == 0)
        failed ? puts(error.text) : printf("%d processes: loss %.5f\n", ranks, loss);
    mbp_trainer_free(trainer);
    mbp_net_free(net);
    if (failed)
        MPI_Abort(comm, 1);
    MPI_Finalize();
}
