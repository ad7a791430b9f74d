// Names to places. Jinja compiles a template to Python functions and decides there what a name means; the same rules
// are followed here, because templates lean on them: a set inside a loop is gone with the turn, a macro sees what is
// around it as it is when it is called, a name that is set anywhere in a scope belongs to that scope.
#ifndef RMJ_TRAINER_JINJA_SCOPE_H
#define RMJ_TRAINER_JINJA_SCOPE_H

#include "trainer/jinja/ast.h"

void jinja_resolve(struct jinja *jinja);

#endif
