/* A workspace that is reserved again keeps what it had room for, and gets room for what is new, and for each
 * thread; a node that no output depends on has no room, so it cannot be predicted. */
#include "api.h"

#include <string.h>

#include "net/workspace.h"

typedef struct wish {
    int64_t rows;
    int needs, threads;
} wish;

static void test_reserve(void) {
    static const wish wishes[] = {{4, MBP_PREDICT, 1},
                                  {100, MBP_PREDICT, 1},
                                  {10, MBP_DELTAS, 1},
                                  {10, MBP_PREDICT, 3},
                                  {10, MBP_TARGETS, 2},
                                  {200, MBP_PREDICT, 4},
                                  {1, MBP_DELTAS | MBP_INPUT_DELTAS, 1}};
    mbp_net *net = net_new(dag, NULL);
    mbp_workspace *workspace = NULL;
    wish most = {0};
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        const wish w = wishes[i];
        mbp_workspace *before = workspace;
        const int fits = before && w.rows <= most.rows && (most.needs & w.needs) == w.needs &&
                         w.threads <= most.threads;
        OK(mbp_workspace_reserve(net, &net->memory, &workspace, w.rows, w.needs, w.threads, NULL, &error));
        most.rows = w.rows > most.rows ? w.rows : most.rows;
        most.needs |= w.needs;
        most.threads = w.threads > most.threads ? w.threads : most.threads;
        CHECK(workspace->rows == most.rows && workspace->needs == most.needs && workspace->threads == most.threads,
              "wish %zu: %lld rows, needs %d, %d threads", i, (long long)workspace->rows, workspace->needs,
              workspace->threads);
        CHECK(!fits || workspace == before, "wish %zu: a new block, although the old one has room", i);
    }
    mbp_workspace_free(&net->memory, workspace);
    mbp_net_free(net);
}

static void test_unused_node(void) {
    mbp_net *net = net_new("input 2\ndense 0 units=3\ndense 0 units=1\noutput 2\n", NULL);
    mbp_array x = array_new(MBP_F32, 4, 2), out = array_new(MBP_F32, 4, 3);
    mbp_error error = {0};
    CHECK(mbp_net_predict(net, &x, 1, &out, 1, 0, 1, &error) == MBP_INVALID &&
              strstr(error.text, "node 1 is not computed, because no output depends on it"),
          "%s", error.text);
    array_free(&x), array_free(&out), mbp_net_free(net);
}

/* Each thread that shares a product has scratch of its own: the largest product decides, wherever in the net it is. */
static void test_packs(void) {
    static const char *const graphs[] = {"input 900\ndense 0 units=900\ndense 1 units=1\noutput 2\n",
                                         "input 1\ndense 0 units=900\ndense 1 units=900\noutput 2\n"};
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, 4, NULL, &error));
    for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++) {
        mbp_net *net = net_new(graphs[i], OPTIONS(.pool = pool, .threads = 4));
        CHECK(mbp_product_threads(net, 256) == 4, "graph %zu: %d threads", i, mbp_product_threads(net, 256));
        mbp_net_free(net);
    }
    mbp_pool_free(pool);
}

static size_t idle_bytes(mbp_net *net, size_t *largest) {
    size_t sum = 0;
    for (mbp_shelf *shelf = &net->idle; shelf; shelf = shelf->next)
        for (int i = 0; i < MBP_PLACES; i++) {
            const mbp_workspace *w = shelf->place[i];
            sum += w ? w->bytes : 0;
            *largest = w && w->bytes > *largest ? w->bytes : *largest;
        }
    return sum;
}

/* MANY predictions run side by side, each with a workspace of its own. Afterwards the net keeps one workspace and
 * as many others as the bound allows, also if all is repeated; with small workspaces all; reserved ones always. */
static void test_idle_bytes(void) {
    enum { MANY = 64 };
    static const struct {
        int64_t rows;
        int reserves;
    } cases[] = {{1, 0}, {4096, 0}, {1 << 16, 0}, {4096, 1}, {1 << 18, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        mbp_net *net = net_new(dag, NULL);
        const size_t before = mbp_net_bytes(net);
        mbp_workspace *taken[MANY];
        size_t idle = 0, all = 0, one = 0;
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < MANY; i++) {
                taken[i] = mbp_workspace_take_idle(net);
                OK(mbp_workspace_reserve(net, &net->memory, &taken[i], cases[c].rows, MBP_PREDICT, 1, NULL, &error));
            }
            one = taken[0]->bytes, all = MANY * one;
            if (cases[c].reserves)
                mbp_workspace_reserve_idle(net, all);
            for (int i = 0; i < MANY; i++)
                mbp_workspace_give_idle(net, taken[i]);
            size_t largest = 0;
            idle = idle_bytes(net, &largest);
            const size_t most = one + MBP_IDLE_BYTES;
            const size_t right = all <= most || cases[c].reserves ? all : one + MBP_IDLE_BYTES / one * one;
            CHECK(idle == right && largest == one, "case %zu, round %d: %zu idle bytes, not %zu", c, round, idle,
                  right);
            CHECK(mbp_net_bytes(net) - before - idle <= 64 * MANY, "case %zu, round %d: %zu bytes are not idle", c,
                  round, mbp_net_bytes(net) - before - idle); /* the shelves */
        }
        mbp_workspace_after_fork(net);
        CHECK(net->idle_bytes == idle - one, "case %zu: %zu bytes counted after fork", c, net->idle_bytes);
        mbp_net_free(net);
    }
}

/* Where the delta of the node `id` is: in that of its operand (1), or in memory of its own (0). */
static int is_inside(const mbp_net *net, const mbp_workspace *w, int id) {
    const mbp_node *node = &net->node[id], *operand = &net->node[net->operands[node->first_operand]];
    const char *at = w->delta[id].at, *whole = w->delta[operand - net->node].at;
    return whole && at == whole + (size_t)mbp_column(node, MBP_COLUMN_FROM) * net->item &&
           w->delta[id].ld == w->delta[operand - net->node].ld;
}

/* Slices whose columns are disjoint, and which are all uses of their operand, need no copy in backward. */
static void test_slices(void) {
    static const struct {
        const char *graph, *inside; /* per node: 1 or 0; - if it is not a used slice */
    } cases[] = {
        {"dense 0 units=8\nslice 1 from=4 to=7\nslice 1 from=0 to=3\nadd 2 3\noutput 4\n", "--11-"},
        {"slice 0 from=0 to=4\nslice 0 from=4 to=8\nslice 2 from=1 to=2\nadd 1 1\noutput 3\noutput 4\n", "-111-"},
        {"slice 0 from=0 to=4\nslice 0 from=3 to=8\noutput 1\noutput 2\n", "-00"},
        {"slice 0 from=0 to=4\nslice 0 from=0 to=4\noutput 1\noutput 2\n", "-00"},
        {"slice 0 from=0 to=4\nslice 0 from=2 to=6\noutput 1\n", "-1-"},
        {"slice 0 from=0 to=4\nactivation 0 tanh\noutput 1\noutput 2\n", "-0-"},
        {"activation 0 tanh\nslice 1 from=0 to=4\noutput 2\noutput 1\n", "--0"},
        {"activation 0 tanh\nconcat 1 0\nslice 2 from=2 to=9\nslice 2 from=9 to=16\nadd 3 4\noutput 5\n", "---11-"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char graph[200];
        mbp_workspace *w = NULL;
        snprintf(graph, sizeof graph, "input 8\n%s", cases[c].graph);
        mbp_net *net = net_new(graph, NULL);
        OK(mbp_workspace_reserve(net, &net->memory, &w, 3, MBP_DELTAS | MBP_INPUT_DELTAS, 1, NULL, &error));
        for (int id = 0; cases[c].inside[id]; id++)
            if (cases[c].inside[id] != '-')
                CHECK(is_inside(net, w, id) == cases[c].inside[id] - '0', "case %zu, node %d", c, id);
        mbp_workspace_free(&net->memory, w);
        mbp_net_free(net);
    }
}

/* As many slices of one node as a graph can have, in any order, are found to be disjoint. */
static void test_many_slices(void) {
    enum { SLICES = MBP_NODES_MAX - 2, STEPS = 5 };
    static const int steps[STEPS] = {1, 3, 4097, SLICES / 2, SLICES - 1}; /* co-prime with SLICES, or nearly */
    char *graph = malloc((size_t)SLICES * 80), *at;
    for (int s = 0; s < STEPS; s++) {
        at = graph + sprintf(graph, "input %d\n", SLICES);
        for (int i = 0; i < SLICES; i++) {
            const int column = (int)((int64_t)i * steps[s] % SLICES);
            at += sprintf(at, "slice 0 from=%d to=%d\n", column, column + 1);
        }
        at += sprintf(at, "concat");
        for (int i = 0; i < SLICES; i++)
            at += sprintf(at, " %d", i + 1);
        sprintf(at, "\noutput %d\n", SLICES + 1);
        mbp_net *net = net_new(graph, NULL);
        const int disjoint = s != 3; /* SLICES is even, so half of it divides it */
        for (int id = 1; id <= SLICES; id++)
            CHECK(net->node[id].home == (disjoint ? 0 : -1), "step %d, slice %d: home %d", steps[s], id,
                  net->node[id].home);
        mbp_net_free(net);
    }
    free(graph);
}

int main(void) {
    test_slices();
    test_many_slices();
    test_reserve();
    test_packs();
    test_idle_bytes();
    test_unused_node();
    return report("workspace");
}
