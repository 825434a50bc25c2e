#include "passes/plan/plan.h"

#include <string.h>

size_t mbp_plan_bytes(const mbp_net *net) {
    return (size_t)net->operand_count * sizeof(mbp_write) + (size_t)net->nodes * (sizeof(mbp_write) + 3 * sizeof(int)) +
           (size_t)net->layers * (sizeof(int) + sizeof(double) + 1 + 2 * sizeof(mbp_group)) + 16;
}

void mbp_plan_place(const mbp_net *net, mbp_plan *plan, char *block) {
    plan->group = (mbp_group *)block;
    plan->scale = (double *)(plan->group + 2 * net->layers);
    plan->edge = (mbp_write *)(plan->scale + net->layers);
    plan->grads = plan->edge + net->operand_count;
    plan->wanted = (int *)(plan->grads + net->nodes);
    plan->deriver = plan->wanted + net->nodes;
    plan->scratch = plan->deriver + net->nodes;
    plan->sparse = (char *)(plan->scratch + net->nodes);
    if (MICROBP_SPARSE)
        memset(plan->sparse, 0, (size_t)net->layers);
    plan->layers_version = net->layers_version - 1;
}

/* A node's delta is needed if the node, or one that it depends on, has a layer that is not frozen or is an input whose
 * gradient is wanted. */
static void plan_wanted(const mbp_net *net, mbp_plan *plan) {
    for (int id = 0; id < net->nodes; id++) {
        const mbp_node *node = &net->node[id];
        int wanted = node->input >= 0 ? plan->input_grads && !mbp_is_ids(node)
                                      : node->layer >= 0 && mbp_layer_trains(&net->layer[node->layer]);
        for (int i = 0; i < node->operands; i++)
            wanted |= plan->wanted[net->operands[node->first_operand + i]];
        plan->wanted[id] = wanted && node->uses > 0;
    }
}

static mbp_write next_write(int *written) { return (*written)++ ? MBP_ACCUMULATE : MBP_STORE; }

/* Whether the deltas of a node and of an operand are in the same memory. */
static int share_delta(const mbp_net *net, int id, int operand) {
    return net->node[id].home == operand || (net->node[operand].home == id && net->node[operand].uses == 1);
}

/* Goes through the deltas in the order in which backward writes them: nodes from last to first, the operands of a node
 * from first to last. Before that, the loss writes the deltas of the outputs. */
static void plan_deltas(const mbp_net *net, mbp_plan *plan) {
    int *written = plan->scratch;
    memset(written, 0, (size_t)net->nodes * sizeof(int));
    memset(plan->deriver, -1, (size_t)net->nodes * sizeof(int));
    for (int i = 0; i < net->outputs; i++)
        written[net->output[i].node] = 1;
    for (int id = net->nodes - 1; id >= 0; id--) {
        const mbp_node *node = &net->node[id];
        for (int i = 0; i < node->operands; i++) {
            const int operand = net->operands[node->first_operand + i];
            const int skip = !plan->wanted[id] || !plan->wanted[operand] || share_delta(net, id, operand);
            plan->edge[node->first_operand + i] = skip ? MBP_SKIP : next_write(&written[operand]);
            if (!skip) /* the node with the smallest number writes last; a pool has no activation */
                plan->deriver[operand] = mbp_reads_sparse(node->kind) && !mbp_is_pool(&net->node[operand]) ? id : -1;
        }
    }
}

static void plan_grads(const mbp_net *net, mbp_plan *plan) {
    int *written = plan->scratch;
    memset(written, 0, (size_t)net->layers * sizeof(int));
    for (int id = net->nodes - 1; id >= 0; id--) {
        const mbp_node *node = &net->node[id];
        const int trains = node->layer >= 0 && node->uses > 0 && mbp_layer_trains(&net->layer[node->layer]);
        plan->grads[id] = trains ? next_write(&written[node->layer]) : MBP_SKIP;
    }
}

/* Adds a group, or makes the last group longer if this one follows it and has the same settings. */
static void add_group(mbp_plan *plan, mbp_group group) {
    mbp_group *last = plan->groups && !plan->per_tensor ? &plan->group[plan->groups - 1] : NULL;
    if (last && last->decay == group.decay && mbp_group_follows(last, &group))
        last->length += group.length;
    else
        plan->group[plan->groups++] = group;
}

static void plan_groups(const mbp_net *net, mbp_plan *plan, int decay_bias) {
    plan->groups = 0;
    for (int i = 0; i < net->layers; i++) {
        const mbp_layer *layer = &net->layer[i];
        if (!layer->frozen && mbp_has_matrix(layer->kind) && !(MICROBP_SPARSE && plan->sparse[i]))
            add_group(plan, (mbp_group){layer->weight, layer->in * layer->out, layer->setting[MBP_LAYER_LR], 1, i});
    }
    for (int i = 0; i < net->layers; i++) {
        const mbp_layer *layer = &net->layer[i];
        if (!layer->frozen && !mbp_has_matrix(layer->kind) && layer->weight >= 0)
            add_group(plan, (mbp_group){layer->weight, layer->out, layer->setting[MBP_LAYER_LR], decay_bias, i});
        if (!layer->frozen && layer->bias >= 0)
            add_group(plan, (mbp_group){layer->bias, mbp_bias_width(layer), mbp_bias_lr(layer), decay_bias, i});
    }
}

void mbp_plan_make(const mbp_net *net, mbp_plan *plan, int input_grads, int decay_bias, int per_tensor) {
    plan->layers_version = net->layers_version;
    plan->input_grads = input_grads;
    plan->per_tensor = per_tensor;
    plan_wanted(net, plan);
    plan_deltas(net, plan);
    plan_grads(net, plan);
    plan_groups(net, plan, decay_bias);
}

int mbp_plan_is_whole(const mbp_net *net, const mbp_plan *plan) {
    int64_t written = 0;
    for (int id = 0; id < net->nodes; id++) {
        const mbp_layer *layer = &net->layer[net->node[id].layer < 0 ? 0 : net->node[id].layer];
        if (plan->grads[id] == MBP_STORE)
            written += (layer->weight >= 0 ? layer->in * layer->out : 0) + (layer->bias >= 0 ? layer->out : 0);
    }
    return written >= net->params;
}
