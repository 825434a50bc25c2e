/* Descriptions of nodes and layers: the graph can be written again from them at any time, after any change. */
#include "api.h"

#include <stdarg.h>

static const char all_kinds[] =
    "input 4\n"
    "input 3\n"
    "dense 0 layer=a units=3 activation=leaky_relu(slope=0x1.999999999999bp-4) init=normal\n"
    "dense 2 layer=b units=3 bias=0 lr=0.5 l1=0.25 l2=1e-5 max_norm=3 frozen=1\n"
    "dense 3 layer=b\n"
    "add 3 1\n"
    "multiply 5 5\n"
    "concat 6 2 0\n"
    "batch_norm 7 momentum=0.3 lr=0\n"
    "layer_norm 8 layer=n eps=0x1.3p-20\n"
    "layer_norm 9 layer=n\n"
    "dropout 10 rate=0.3\n"
    "noise 11 std=0x1.555p-3\n"
    "activation 12 elu(alpha=0.7)\n"
    "dense 0 layer=unused units=2 bias_lr=0.125 bias_init=uniform(limit=0x1.3p-2)\n"
    "scale 13 layer=s lr=6 bias=0\n"
    "scale 15 gain=0 frozen=1\n"
    "scale 16 layer=s\n"
    "subtract 17 9\n"
    "add 18 9 18 17\n"
    "slice 19 from=2 to=7\n"
    "output 13\n"
    "output 4 activation=exp\n";
enum { ROOM = 4000 };

/* ---- the graph, written from the descriptions ---- */

typedef struct text {
    char at[ROOM];
    size_t length;
} text;

__attribute__((format(printf, 2, 3))) static void put(text *t, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    t->length += (size_t)vsnprintf(t->at + t->length, ROOM - t->length, format, arguments);
    va_end(arguments);
}

static void put_layer(text *t, const mbp_net *net, int layer, const char *operation) {
    mbp_layer_info l = {.size = sizeof l};
    OK(mbp_net_layer(net, layer, &l, &error));
    CHECK(strcmp(l.operation, operation) == 0, "layer %s is a %s, its node a %s", l.name, l.operation, operation);
    put(t, " layer=%s frozen=%d lr=%a", l.name, l.frozen, l.lr);
    if (strcmp(l.operation, "dense") == 0)
        put(t, " units=%d bias=%d activation=%s init=%s l1=%a l2=%a max_norm=%a", (int)l.out, l.bias, l.activation,
            l.init, l.l1, l.l2, l.max_norm);
    else if (strcmp(l.operation, "scale") == 0)
        put(t, " gain=%d bias=%d", l.gain, l.bias);
    else
        put(t, " eps=%a", l.eps);
    if (strcmp(l.operation, "dense") == 0 && l.bias_lr >= 0)
        put(t, " bias_lr=%a", l.bias_lr);
    if (*l.bias_init)
        put(t, " bias_init=%s", l.bias_init);
    CHECK(*l.bias_init ? l.bias : !l.bias || !*l.init, "layer %s: bias=%d bias_init=%s", l.name, l.bias, l.bias_init);
    CHECK(l.gain || strcmp(l.operation, "scale") == 0, "layer %s has no gain", l.name);
    if (strcmp(l.operation, "batch_norm") == 0)
        put(t, " momentum=%a", l.momentum);
}

static void put_node(text *t, const mbp_net *net, const mbp_node_info *n, int *layers) {
    mbp_layer_info l = {.size = sizeof l};
    put(t, "%s", n->operation);
    for (int i = 0; i < n->operands; i++)
        put(t, " %d", n->operand[i]);
    if (n->layer == *layers)
        put_layer(t, net, (*layers)++, n->operation);
    else if (n->layer >= 0)
        put(t, " layer=%s", mbp_net_layer(net, n->layer, &l, NULL) == MBP_OK ? l.name : "?");
    else if (!n->operands)
        put(t, " %d", (int)n->width);
    else if (*n->activation)
        put(t, " %s", n->activation);
    else if (n->to)
        put(t, " from=%d to=%d", (int)n->from, (int)n->to);
    else if (n->amount != 0)
        put(t, " %s=%a", strcmp(n->operation, "noise") == 0 ? "std" : "rate", n->amount);
    put(t, "\n");
}

static void check_description(const mbp_net *net) {
    text described = {{0}, 0};
    int layers = 0;
    char is[ROOM], again[ROOM];
    for (int i = 0; i < mbp_net_nodes(net); i++) {
        mbp_node_info n = {.size = sizeof n};
        OK(mbp_net_node(net, i, &n, &error));
        CHECK(n.width == mbp_net_node_width(net, i), "node %d: width %d", i, (int)n.width);
        put_node(&described, net, &n, &layers);
    }
    CHECK(layers == mbp_net_layers(net), "%d layers", layers);
    for (int i = 0; i < mbp_net_outputs(net); i++) {
        const char *activation = mbp_net_output_activation(net, i);
        put(&described, "output %d%s%s\n", mbp_net_output_node(net, i), activation ? " activation=" : "",
            activation ? activation : "");
    }
    mbp_net *back = net_new(described.at, NULL);
    mbp_net_text(net, is, ROOM), mbp_net_text(back, again, ROOM);
    CHECK(strcmp(is, again) == 0, "the net is\n%s but its description is\n%s", is, described.at);
    mbp_net_free(back);
}

static void test_descriptions(void) {
    mbp_net *net = net_new(all_kinds, NULL);
    check_description(net);
    OK(mbp_net_freeze(net, NULL, 1, &error));
    check_description(net);
    OK(mbp_net_freeze(net, "b", 0, &error));
    OK(mbp_net_set_layer(net, NULL, "eps", 0.125, &error));
    OK(mbp_net_set_layer(net, "a", "max_norm", 2, &error));
    OK(mbp_net_set_output(net, 0, "sigmoid", &error));
    OK(mbp_net_set_output(net, 1, NULL, &error));
    check_description(net);
    static const int inputs[] = {0, 1, -1, -1, -1}, outputs[] = {13, 4, -1, -1, -1}, asked[] = {0, 1, 2, -1, INT32_MIN};
    for (int i = 0; i < 5; i++)
        CHECK(mbp_net_input_node(net, asked[i]) == inputs[i] && mbp_net_output_node(net, asked[i]) == outputs[i],
              "end %d", asked[i]);
    mbp_net_free(net);
}

/* ---- wrong numbers and sizes ---- */

static void test_refused(void) {
    static const int wrong[] = {-1, 21, INT32_MAX, INT32_MIN};
    mbp_net *net = net_new(all_kinds, NULL);
    struct {
        mbp_node_info node;
        mbp_layer_info layer;
        char behind[32];
    } later, before;
    for (int i = 0; i < 4; i++) {
        mbp_error error = {0};
        memset(&later, 7, sizeof later);
        later.node.size = sizeof later.node, later.layer.size = sizeof later.layer;
        before = later;
        CHECK(mbp_net_node(net, wrong[i], &later.node, &error) == MBP_INVALID && strstr(error.text, "there is no node"),
              "%s", error.text);
        CHECK(mbp_net_layer(net, wrong[i], &later.layer, &error) == MBP_INVALID &&
                  strstr(error.text, "there is no layer"),
              "%s", error.text);
        CHECK(memcmp(&later, &before, sizeof later) == 0, "a refused call writes");
    }
    for (size_t size = 0; size < sizeof later.layer; size++) {
        mbp_error error = {0};
        later.layer.size = before.layer.size = size;
        CHECK(mbp_net_layer(net, 0, &later.layer, &error) == MBP_INVALID && strstr(error.text, "set it to sizeof"),
              "size %zu: %s", size, error.text);
        later.node.size = before.node.size = size < sizeof later.node ? size : 0;
        CHECK(mbp_net_node(net, 0, &later.node, &error) == MBP_INVALID && strstr(error.text, "set it to sizeof"),
              "size %zu: %s", size, error.text);
        CHECK(memcmp(&later, &before, sizeof later) == 0, "a refused size writes");
    }
    later.layer.size = sizeof later.layer + 20; /* of a later version: unknown fields become 0 */
    OK(mbp_net_layer(net, 0, &later.layer, &error));
    CHECK(later.layer.size == sizeof later.layer + 20 && strcmp(later.layer.name, "a") == 0,
          "a structure with a larger size");
    for (int i = 0; i < 32; i++)
        CHECK(later.behind[i] == (i < 20 ? 0 : 7), "byte %d behind is %d", i, later.behind[i]);
    mbp_net_free(net);
}

/* Every activation and initializer fits into MBP_SPEC_MAX, with the longest numbers. */
static void test_specs_fit(void) {
    static const struct {
        mbp_kind kind;
        const char *graph;
    } kinds[] = {{MBP_ACTIVATION, "input 1\ndense 0 units=1 activation=%s\noutput 1\n"},
                 {MBP_INITIALIZER, "input 1\ndense 0 units=1 init=%s\noutput 1\n"}};
    for (int k = 0; k < 2; k++)
        for (int i = 0; mbp_formula_name(kinds[k].kind, i); i++) {
            const char *parameters = mbp_formula_parameters(kinds[k].kind, i);
            char spec[200], graph[400], whole[ROOM];
            size_t length = (size_t)snprintf(spec, sizeof spec, "%s", mbp_formula_name(kinds[k].kind, i));
            for (const char *at = parameters; at && *at; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL)
                length += (size_t)snprintf(spec + length, sizeof spec - length, "%c%.*s=0x1.999999999999bp-4",
                                           at == parameters ? '(' : ',', (int)strcspn(at, "="), at);
            if (*parameters)
                snprintf(spec + length, sizeof spec - length, ")");
            snprintf(graph, sizeof graph, kinds[k].graph, spec);
            mbp_net *net = net_new(graph, NULL);
            mbp_layer_info l = {.size = sizeof l};
            OK(mbp_net_layer(net, 0, &l, &error));
            const char *got = k ? l.init : l.activation;
            mbp_net_text(net, whole, ROOM);
            const char *in_text = strstr(whole, k ? " init=" : " activation=") + (k ? 6 : 12);
            CHECK(strlen(got) == strcspn(in_text, " ") && strncmp(got, in_text, strlen(got)) == 0,
                  "%s is described as %s", spec, got);
            mbp_net_free(net);
        }
}

int main(void) {
    test_descriptions();
    test_refused();
    test_specs_fit();
    return report("descriptions");
}
