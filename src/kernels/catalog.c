#include "kernels/catalog.h"

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
#define LOSS(name, activation, targets, columns, reduction, parameters, ...) {#name, parameters, #activation, targets},
#define ROW_LOSS(name, activation, targets, columns, parameters, ...) {#name, parameters, #activation, targets},
static const row losses[] = {
#include "formulas/formulas.def"
};
#define OPTIMIZER(name, slots, parameters, ...) {#name, parameters, slots, ""},
#define TRUST_OPTIMIZER OPTIMIZER
static const row optimizers[] = {
#include "formulas/formulas.def"
};
#endif
#if MICROBP_TRAINING && MICROBP_SOLVERS
#define SOLVER(name, parameters, numbers, meaning) {#name, parameters, numbers, ""},
static const row solvers[] = {
#include "formulas/formulas.def"
};
#endif

/* Parameters that every optimizer, and every loss, has besides those of its row: whether weight decay acts on biases
 * too; whether NaN and the label -1 are targets that are missing. */
#define DECAY_BIAS " decay_bias=0[0,1]"
#define MISSING " missing=0[0,1]"

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
#if MICROBP_TRAINING && MICROBP_SOLVERS
    [MBP_SOLVER] = {solvers, sizeof solvers / sizeof *solvers, "solver"},
#endif
    [MBP_INITIALIZER] = {initializers, INITIALIZER_COUNT, "initializer"},
    [MBP_OUTPUT_ACTIVATION] = {output_activations, OUTPUT_ACTIVATION_COUNT, "output activation"},
};

static const row *find(mbp_kind kind, int i) {
    if ((unsigned)kind >= sizeof kinds / sizeof *kinds || i < 0 || i >= kinds[kind].count)
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
    for (int i = 0; kind == MBP_OPTIMIZER && mbp_formula_name(MBP_SOLVER, i); i++) /* they are optimizers to callers */
        mbp_unknown_add(&unknown, mbp_slice_of(mbp_formula_name(MBP_SOLVER, i)));
    snprintf(what, sizeof what, UNKNOWN " %s", kinds[kind].noun);
    return mbp_unknown_fail(&unknown, what, error);
}

/* The parameters of the row and, for an optimizer, decay_bias; for a loss, missing. */
static const char *all_parameters(mbp_kind kind, int i, char text[512]) {
    strcpy(text, kinds[kind].rows[i].parameters);
    if (kind == MBP_LOSS)
        return strcat(text, &MISSING[!*text]); /* without its blank, if it is the only one */
    return kind == MBP_OPTIMIZER ? strcat(text, DECAY_BIAS) : text;
}

static mbp_status parse(mbp_kind kind, mbp_slice spec, mbp_formula *formula, mbp_lists *lists, mbp_error *error) {
    char text[512];
    mbp_slice rest = spec; /* an output activation is a plain name, without blanks around it */
    const mbp_slice name = kind == MBP_OUTPUT_ACTIVATION ? mbp_take_until(&rest, '(') : mbp_spec_name(spec);
    *formula = (mbp_formula){find_name(kind, name), {0}};
    if (formula->row < 0)
        return unknown_formula(kind, name, error);
    return mbp_spec_values(spec, all_parameters(kind, formula->row, text), formula->parameters, lists, error);
}

mbp_status mbp_formula_parse(mbp_kind kind, mbp_slice spec, mbp_formula *formula, mbp_error *error) {
    return parse(kind, spec, formula, NULL, error);
}

static int count_words(const char *text) {
    mbp_slice rest = mbp_slice_of(text);
    int count = 0;
    while (mbp_take_word(&rest).length)
        count++;
    return count;
}

int mbp_loss_missing(const mbp_formula *loss) {
    return loss->row >= 0 && loss->parameters[count_words(find(MBP_LOSS, loss->row)->parameters)] != 0;
}

size_t mbp_formula_print(mbp_kind kind, const mbp_formula *formula, char *text) {
    const row *r = find(kind, formula->row);
    size_t length = strlen(strcpy(text, r->name));
    mbp_slice name;
    double standard;
    mbp_interval interval;
    for (int i = 0; mbp_parameter(r->parameters, i, &name, &standard, &interval); i++) {
        if (formula->parameters[i] == 0 && mbp_slice_is(name, "eps_hat")) /* earlier versions do not know it */
            continue;
        text[length++] = i ? ',' : '(';
        memcpy(text + length, name.at, name.length + 1); /* with its '=' */
        length += name.length + 1;
        length += mbp_print_number(text + length, formula->parameters[i]);
    }
    int ends = *r->parameters != 0;
    if (kind == MBP_LOSS && mbp_loss_missing(formula)) {
        length += strlen(strcpy(text + length, ends ? ",missing=1" : "(missing=1"));
        ends = 1;
    }
    if (ends)
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

enum { PER_NUMBER }; /* of formulas.def */

static const struct {
    int columns, may_be_lists;
} loss_columns[] = {
#define LOSS(name, activation, targets, columns, ...) {columns, 1},
#define ROW_LOSS(name, activation, targets, columns, ...) {columns, 0},
#include "formulas/formulas.def"
};

mbp_status mbp_loss_parse(mbp_slice spec, mbp_formula *loss, mbp_lists *lists, mbp_error *error) {
    const int i = find_name(MBP_LOSS, mbp_spec_name(spec));
    *lists = (mbp_lists){0};
    const mbp_status status = parse(MBP_LOSS, spec, loss, i >= 0 && loss_columns[i].may_be_lists ? lists : NULL, error);
    if (MICROBP_LISTS && status == MBP_OK && lists->of[count_words(losses[i].parameters)].count)
        return mbp_fail(error, MBP_INVALID, "missing must be 0 or 1, not a list");
    return status;
}

int mbp_loss_shares(int loss, int i) { return MICROBP_LISTS && i == 0 && loss_columns[loss].columns == PER_NUMBER; }

mbp_status mbp_loss_width(const mbp_formula *loss, const mbp_lists *lists, int64_t columns, int64_t *targets,
                          mbp_error *error) {
    const char *name = losses[loss->row].name;
    int64_t each = loss_columns[loss->row].columns;
    if (each == PER_NUMBER)
        each = MICROBP_LISTS && lists->of[0].count ? lists->of[0].count : 1;
    if (columns % each)
        return mbp_fail(error, MBP_INVALID,
                        "%s has %lld columns for each target, so the output needs a multiple of %lld columns, not %lld",
                        name, (long long)each, (long long)each, (long long)columns);
    *targets = columns / each;
    for (int i = 0; i < MBP_PARAMETERS_MAX && MICROBP_LISTS; i++)
        if (lists->of[i].count && !mbp_loss_shares(loss->row, i) && lists->of[i].count != columns)
            return mbp_fail(error, MBP_INVALID, "a list in %s has %lld number%s, but the output has %lld column%s",
                            name, (long long)lists->of[i].count, mbp_plural(lists->of[i].count), (long long)columns,
                            mbp_plural(columns));
    return MBP_OK;
}

mbp_status mbp_loss_target_columns(const char *loss, int64_t columns, int64_t *targets, mbp_error *error) {
    mbp_formula formula;
    mbp_lists lists;
    if (!loss || !targets)
        return mbp_fail_null(error, loss ? "targets" : "loss",
                             loss ? "an int64_t, where the number is stored" : "a SPEC such as \"gaussian_nll\"");
    if (columns < 1)
        return mbp_fail(error, MBP_INVALID, "columns is %lld, but must be at least 1", (long long)columns);
    mbp_status status = mbp_loss_parse(mbp_slice_of(loss), &formula, &lists, error);
    return status == MBP_OK ? mbp_loss_width(&formula, &lists, columns, targets, error) : status;
}

int mbp_loss_activation(int loss) {
    static const int rows[] = {
#define LOSS(name, activation, ...) OUTPUT_ACTIVATION_##activation,
#define ROW_LOSS(name, activation, ...) OUTPUT_ACTIVATION_##activation,
#include "formulas/formulas.def"
    };
    return rows[loss];
}

int mbp_loss_is_mean(int loss) {
    enum { SUM, MEAN };
    static const char means[] = {
#define LOSS(name, activation, targets, columns, reduction, ...) reduction,
#define ROW_LOSS(...) SUM,
#include "formulas/formulas.def"
    };
    return means[loss] == MEAN;
}
const char *mbp_loss_targets(int loss) { return losses[loss].note; }

/* ---- optimizers ---- */

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
#define OPTIMIZER(name, slots, parameters, meaning, powers, decay_enters, prepare_function, ...) prepare_function,
#define TRUST_OPTIMIZER(name, slots, parameters, meaning, powers, prepare_function, ...) prepare_function,
#include "formulas/formulas.def"
    };
    prepare[optimizer](parameters, running, constants);
}

#if MICROBP_SPARSE
mbp_idle mbp_optimizer_idle(int optimizer, const double *parameters, double decay) {
    static mbp_idle (*const idle[])(const double h[], double decay) = {
#define OPTIMIZER(name, slots, parameters, meaning, powers, decay_enters, prepare, step, idle_step) idle_step,
#define TRUST_OPTIMIZER(...) no_idle,
#include "formulas/formulas.def"
    };
    return idle[optimizer](parameters, decay);
}
#endif

#endif
