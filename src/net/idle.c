/* Workspaces of finished predictions, which the net keeps for the next ones. */
#include "net/workspace.h"

/* Stands in a place while its workspace is in use: the place stays the workspace's, and giving it back is a store. */
static mbp_workspace *in_use(const mbp_net *net) { return (mbp_workspace *)net; }

static int is_idle(const mbp_net *net, const mbp_workspace *workspace) { return workspace && workspace != in_use(net); }

/* One thread needs no second shelf. */
static mbp_shelf *next_shelf(mbp_shelf *shelf) { return MICROBP_THREADS ? mbp_look(&shelf->next) : NULL; }

/* The first place keeps its workspace whatever its size, and costs nothing: it serves threads that predict alone. */
static int is_counted(const mbp_net *net, const mbp_place *place) {
    return MICROBP_THREADS && place != net->idle.place;
}

mbp_workspace *mbp_workspace_take_idle(mbp_net *net) {
    for (mbp_shelf *shelf = &net->idle; shelf; shelf = next_shelf(shelf))
        for (int i = 0; i < MBP_PLACES; i++) {
            mbp_place *place = &shelf->place[i];
            mbp_workspace *workspace = MBP_SEE(place);
            if (is_idle(net, workspace))
                workspace = mbp_exchange(place, in_use(net));
            if (is_idle(net, workspace)) {
                workspace->place = place;
                if (is_counted(net, place))
                    mbp_sum(&net->idle_bytes, 0 - workspace->bytes);
                return workspace;
            }
        }
    return NULL;
}

/* The next shelf, which is made if there is none; NULL: no memory. */
static mbp_shelf *add_shelf(mbp_net *net, mbp_shelf *last) {
    mbp_shelf *made = MICROBP_THREADS ? mbp_memory_take(&net->memory, sizeof *made) : NULL;
    if (!made)
        return next_shelf(last);
    memset(made, 0, sizeof *made);
    if (mbp_replace(&last->next, NULL, made))
        return made;
    mbp_memory_give(&net->memory, made, sizeof *made);
    return next_shelf(last); /* that of another thread */
}

/* A free place of the shelf, which is then taken; NULL: it has none. */
static mbp_place *free_place(mbp_net *net, mbp_shelf *shelf) {
    for (int i = 0; i < MBP_PLACES; i++)
        if (mbp_replace(&shelf->place[i], NULL, in_use(net)))
            return &shelf->place[i];
    return NULL;
}

int mbp_workspace_find_place(mbp_net *net, mbp_workspace *workspace) {
    for (mbp_shelf *shelf = &net->idle; shelf && !workspace->place;) {
        mbp_shelf *next = next_shelf(shelf);
        workspace->place = free_place(net, shelf);
        shelf = next || workspace->place ? next : add_shelf(net, shelf);
    }
    return workspace->place != NULL;
}

void mbp_workspace_reserve_idle(mbp_net *net, size_t bytes) {
    if (bytes > MBP_SEE(&net->idle_reserved))
        MBP_PUT(&net->idle_reserved, bytes);
}

/* Adds the workspace to the counted ones; returns 0 if they have too many bytes then, and takes it away again. */
static int count_idle(mbp_net *net, const mbp_workspace *workspace) {
    const size_t bytes = workspace->bytes, reserved = MBP_SEE(&net->idle_reserved);
    const int fits = mbp_sum(&net->idle_bytes, bytes) <= (reserved > MBP_IDLE_BYTES ? reserved : MBP_IDLE_BYTES);
    if (!fits)
        mbp_sum(&net->idle_bytes, 0 - bytes);
    return fits;
}

void mbp_workspace_give_idle(mbp_net *net, mbp_workspace *workspace) {
    const int has_place = workspace->place || mbp_workspace_find_place(net, workspace);
    const int stays = has_place && (!is_counted(net, workspace->place) || count_idle(net, workspace));
    if (has_place)
        mbp_pass_on(workspace->place, stays ? workspace : NULL);
    if (!stays)
        mbp_workspace_free(&net->memory, workspace);
}

void mbp_workspace_free_idle(mbp_net *net) {
    for (mbp_shelf *shelf = &net->idle, *next; shelf; shelf = next) {
        for (int i = 0; i < MBP_PLACES; i++) {
            mbp_workspace *workspace = MBP_SEE(&shelf->place[i]);
            if (is_idle(net, workspace))
                mbp_workspace_free(&net->memory, workspace);
        }
        next = next_shelf(shelf);
        if (shelf != &net->idle)
            mbp_memory_give(&net->memory, shelf, sizeof *shelf);
    }
}

void mbp_workspace_after_fork(mbp_net *net) {
    net->idle_bytes = 0;
    for (mbp_shelf *shelf = &net->idle; shelf; shelf = next_shelf(shelf))
        for (int i = 0; i < MBP_PLACES; i++)
            if (!mbp_replace(&shelf->place[i], in_use(net), NULL) && shelf->place[i] &&
                is_counted(net, &shelf->place[i]))
                net->idle_bytes += ((mbp_workspace *)shelf->place[i])->bytes;
}
