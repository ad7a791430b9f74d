// Elements of a .json file: a list of objects, [{...}, {...}], or objects one after another, as some tools name their
// lines. One element at a time, whatever the size of the file.
#ifndef RMJ_TRAINER_DATA_LINES_JSON_H
#define RMJ_TRAINER_DATA_LINES_JSON_H

#include "base/buf.h"
#include "base/status.h"
#include "trainer/data/lines_stored.h"

struct rmj_json_elements {
    int began;  // the first byte that is not white space was seen
    int listed; // it was '['
    int ended;  // the list was closed
    int count;  // elements so far, up to 2
};

// The next element's text in `element`; empty after the last. RMJ_DATA for what is no list, and for an element that
// does not fit element->size_max.
RMJ_MUST_USE enum rmj_status rmj_json_elements_next(struct rmj_json_elements *elements, struct rmj_stored *stored,
                                                    struct rmj_buf *element, struct rmj_error *err);

#endif
