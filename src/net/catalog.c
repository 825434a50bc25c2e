#include "net/catalog.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#if MICROBP_TRAINING
#define MBP_DOUBLE
#include "formulas/optimizers.h"
#endif

/* name to detail: the texts that mbp_formula_name, ... return. note: for an activation "Y" or "Z", whichever backward
 * reads; for a loss its targets. */
typedef struct row {
    const char *name, *parameters, *detail, *note;
} row;

#define ACTIVATION(name, keep, initializer, bias_initializer, parameters, ...) {#name, parameters, "", #keep},
static const row activations[] = {
#include "formulas/formulas.def"
};
#define INITIALIZER(name, parameters, ...) {#name, parameters, "", ""},
static const row initializers[] = {
#include "formulas/formulas.def"
};
#define OUTPUT_ACTIVATION(name, ...) {#name, "", "", ""},
#define ROW_OUTPUT_ACTIVATION OUTPUT_ACTIVATION
static const row output_activations[] = {
#include "formulas/formulas.def"
};
#if MICROBP_TRAINING
#define LOSS(name, activation, targets, reduction, parameters, ...) {#name, parameters, #activation, targets},
#define ROW_LOSS(name, activation, targets, parameters, ...) {#name, parameters, #activation, targets},
static const row losses[] = {
#include "formulas/formulas.def"
};
#define OPTIMIZER(name, slots, parameters, ...) {#name, parameters, slots, ""},
#define TRUST_OPTIMIZER OPTIMIZER
static const row optimizers[] = {
#include "formulas/formulas.def"
};
#endif

/* A parameter that every optimizer has besides those of its row: whether weight decay acts on biases too. */
#define DECAY_BIAS " decay_bias=0[0,1]"

static const struct {
    const row *rows;
    int count;
    const char *noun;
} kinds[] = {
    [MBP_ACTIVATION] = {activations, ACTIVATION_COUNT, "activation"},
#if MICROBP_TRAINING
    [MBP_LOSS] = {losses, LOSS_COUNT, "loss"},
    [MBP_OPTIMIZER] = {optimizers, OPTIMIZER_COUNT, "optimizer"},
#endif
    [MBP_INITIALIZER] = {initializers, INITIALIZER_COUNT, "initializer"},
    [MBP_OUTPUT_ACTIVATION] = {output_activations, OUTPUT_ACTIVATION_COUNT, "output activation"},
};

static const row *find(mbp_kind kind, int i) {
    if ((unsigned)kind > MBP_OUTPUT_ACTIVATION || i < 0 || i >= kinds[kind].count)
        return NULL;
    return &kinds[kind].rows[i];
}

const char *mbp_version(void) { return MBP_VERSION; }

const char *mbp_formula_name(mbp_kind kind, int i) {
    const row *r = find(kind, i);
    return r ? r->name : NULL;
}

const char *mbp_formula_parameters(mbp_kind kind, int i) {
    const row *r = find(kind, i);
    return r ? r->parameters : NULL;
}

const char *mbp_formula_detail(mbp_kind kind, int i) {
    const row *r = find(kind, i);
    return r ? r->detail : NULL;
}

int mbp_formula_is(mbp_kind kind, int i, const char *name) {
    const char *own = mbp_formula_name(kind, i);
    return own && strcmp(own, name) == 0;
}

static int find_name(mbp_kind kind, mbp_slice name) {
    for (int i = 0; i < kinds[kind].count; i++)
        if (mbp_slice_is(name, kinds[kind].rows[i].name))
            return i;
    return -1;
}

/* The loss that implies this output activation; NULL if this build has none. */
static const char *loss_with(mbp_slice activation) {
    for (int i = 0; mbp_formula_name(MBP_LOSS, i); i++)
        if (mbp_slice_is(activation, mbp_formula_detail(MBP_LOSS, i)))
            return mbp_formula_name(MBP_LOSS, i);
    return NULL;
}

static mbp_status output_activation_in_layer(mbp_slice name, mbp_error *error) {
    const char *loss = loss_with(name);
    return mbp_fail(error, MBP_INVALID,
                    "%.*s is an output activation, not a layer activation: keep the layer linear and %s%s%swrite "
                    "\"output N activation=%.*s\"",
                    (int)name.length, name.at, loss ? "use the loss " : "", loss ? loss : "",
                    loss ? ", which includes it, or " : "", (int)name.length, name.at);
}

/* A build that has some of the formulas does not know the names of the others, so it refuses each as one of them. */
#if MICROBP_FORMULAS
#define UNKNOWN "this build (MICROBP_FORMULAS) has no"
#else
#define UNKNOWN "unknown"
#endif

static mbp_status unknown_formula(mbp_kind kind, mbp_slice name, mbp_error *error) {
    char what[64];
    mbp_unknown unknown = {.word = name};
    if (MICROBP_FORMULAS)
        unknown.valid_are = "it has", unknown.status = MBP_UNSUPPORTED;
    if (kind == MBP_ACTIVATION && find_name(MBP_OUTPUT_ACTIVATION, name) >= 0)
        return output_activation_in_layer(name, error);
    for (int i = 0; i < kinds[kind].count; i++)
        mbp_unknown_add(&unknown, mbp_slice_of(kinds[kind].rows[i].name));
    snprintf(what, sizeof what, UNKNOWN " %s", kinds[kind].noun);
    return mbp_unknown_fail(&unknown, what, error);
}

/* The parameters of the row and, for an optimizer, decay_bias. */
static const char *all_parameters(mbp_kind kind, int i, char text[512]) {
    strcpy(text, kinds[kind].rows[i].parameters);
    return kind == MBP_OPTIMIZER ? strcat(text, DECAY_BIAS) : text;
}

mbp_status mbp_formula_parse(mbp_kind kind, mbp_slice spec, mbp_formula *formula, mbp_error *error) {
    char text[512];
    mbp_slice rest = spec; /* an output activation is a plain name, without blanks around it */
    const mbp_slice name = kind == MBP_OUTPUT_ACTIVATION ? mbp_take_until(&rest, '(') : mbp_spec_name(spec);
    *formula = (mbp_formula){find_name(kind, name), {0}};
    if (formula->row < 0)
        return unknown_formula(kind, name, error);
    return mbp_spec_values(spec, all_parameters(kind, formula->row, text), formula->parameters, error);
}

size_t mbp_formula_print(mbp_kind kind, const mbp_formula *formula, char *text) {
    const row *r = find(kind, formula->row);
    size_t length = strlen(strcpy(text, r->name));
    mbp_slice name;
    double standard;
    mbp_interval interval;
    for (int i = 0; mbp_parameter(r->parameters, i, &name, &standard, &interval); i++) {
        text[length++] = i ? ',' : '(';
        memcpy(text + length, name.at, name.length + 1); /* with its '=' */
        length += name.length + 1;
        length += mbp_print_number(text + length, formula->parameters[i]);
    }
    if (*r->parameters)
        text[length++] = ')';
    text[length] = 0;
    return length;
}

int mbp_activation_keeps_z(int activation) { return *activations[activation].note == 'Z'; }

int mbp_activation_initializer(int activation) {
    static const int rows[] = {
#define ACTIVATION(name, keep, initializer, ...) INITIALIZER_##initializer,
#include "formulas/formulas.def"
    };
    return rows[activation];
}

int mbp_activation_bias_initializer(int activation) {
    static const int rows[] = {
#define ACTIVATION(name, keep, initializer, bias_initializer, ...) INITIALIZER_##bias_initializer,
#include "formulas/formulas.def"
    };
    return rows[activation];
}

mbp_distribution mbp_initializer_scale(const mbp_formula *initializer, double in, double out, double *scale) {
    const double p0 = initializer->parameters[0];
    (void)p0;
    switch (initializer->row) {
#define INITIALIZER(name, parameters, meaning, distribution, value) \
    case INITIALIZER_##name: *scale = value; return distribution;
#include "formulas/formulas.def"
    }
    return KEEP;
}

#if MICROBP_TRAINING

/* ---- losses ---- */

int mbp_loss_activation(int loss) {
    static const int rows[] = {
#define LOSS(name, activation, ...) OUTPUT_ACTIVATION_##activation,
#define ROW_LOSS(name, activation, ...) OUTPUT_ACTIVATION_##activation,
#include "formulas/formulas.def"
    };
    return rows[loss];
}

const char *mbp_loss_targets(int loss) { return losses[loss].note; }

/* ---- optimizers ---- */

static int count_words(const char *text) {
    mbp_slice rest = mbp_slice_of(text);
    int count = 0;
    while (mbp_take_word(&rest).length)
        count++;
    return count;
}

int mbp_optimizer_slots(int optimizer) { return count_words(optimizers[optimizer].detail); }

double mbp_optimizer_slot_start(int optimizer, int i, const double *parameters) {
    mbp_slice rest = mbp_slice_of(optimizers[optimizer].detail), word = mbp_take_word(&rest);
    while (i-- > 0)
        word = mbp_take_word(&rest);
    const char *equals = memchr(word.at, '=', word.length);
    if (!equals)
        return 0;
    const mbp_slice name = {equals + 1, (size_t)(word.at + word.length - (equals + 1))};
    return parameters[mbp_parameter_index(optimizers[optimizer].parameters, name)];
}

int mbp_optimizer_decay(int optimizer) {
    return mbp_parameter_index(optimizers[optimizer].parameters, mbp_slice_of("weight_decay"));
}

int mbp_optimizer_decouples(int optimizer) {
    enum { IN_GRADIENT, DECOUPLED };
    static const int decoupled[] = {
#define OPTIMIZER(name, slots, parameters, meaning, powers, decay_enters, ...) decay_enters == DECOUPLED,
#define TRUST_OPTIMIZER(...) 0,
#include "formulas/formulas.def"
    };
    return decoupled[optimizer];
}

int mbp_optimizer_decay_bias(int optimizer) { return count_words(optimizers[optimizer].parameters); }

void mbp_optimizer_advance(int optimizer, const double *parameters, mbp_running *running) {
    static void (*const advance[])(const double h[], mbp_running *run) = {
#define OPTIMIZER(name, slots, parameters, meaning, powers, ...) powers,
#define TRUST_OPTIMIZER(name, slots, parameters, meaning, powers, ...) powers,
#include "formulas/formulas.def"
    };
    running->steps++;
    advance[optimizer](parameters, running);
}

void mbp_optimizer_prepare(int optimizer, const double *parameters, const mbp_running *running,
                           double constants[MBP_CONSTANTS_MAX]) {
    static void (*const prepare[])(const double h[], const mbp_running *run, double c[]) = {
#define OPTIMIZER(name, slots, parameters, meaning, powers, decay_enters, prepare_function, step) prepare_function,
#define TRUST_OPTIMIZER(name, slots, parameters, meaning, powers, prepare_function, ...) prepare_function,
#include "formulas/formulas.def"
    };
    prepare[optimizer](parameters, running, constants);
}

#endif
