// What a template can call by name: filters, tests, functions, and the methods of its values.
#ifndef RMJ_TRAINER_JINJA_BUILTIN_H
#define RMJ_TRAINER_JINJA_BUILTIN_H

#include "trainer/jinja/ast.h"

// NULL: not supported.
const struct jinja_builtin *jinja_find_filter(const char *name, size_t size);
const struct jinja_builtin *jinja_find_test(const char *name, size_t size);
const struct jinja_builtin *jinja_find_function(const char *name, size_t size);
// map("name"), select("name") and others name a filter or test as a text: that name when it is not supported.
const struct jinja_string *jinja_unknown_builtin(const struct jinja_node *filter, const char **kind);

// Tables, by file. Each ends with a NULL name.
extern const struct jinja_builtin jinja_text_filters[];
extern const struct jinja_builtin jinja_sequence_filters[];
extern const struct jinja_builtin jinja_number_filters[];
extern const struct jinja_builtin jinja_lazy_filters[];
extern const struct jinja_builtin jinja_tests[];
extern const struct jinja_builtin jinja_functions[];
extern const struct jinja_builtin jinja_text_methods[];
extern const struct jinja_builtin jinja_text_cut_methods[];
extern const struct jinja_builtin jinja_dict_methods[];
extern const struct jinja_builtin jinja_list_methods[];
extern const struct jinja_builtin jinja_loop_methods[];
extern const struct jinja_builtin jinja_cycler_methods[];
const struct jinja_builtin *jinja_find_in(const struct jinja_builtin *table, const char *name, size_t size);

// Runs a builtin: binds the arguments to its parameters, fails when they do not fit.
struct jinja_value jinja_run_builtin(struct jinja_state *state, const struct jinja_builtin *builtin,
                                     struct jinja_value self, const struct jinja_arguments *arguments);

#endif
