// Pictures as inline SVG. Each is 360 units wide, so that its letters can be read on a telephone too; colours are
// classes of the page's style sheet, light and dark.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "service/gate/page_internal.h"

#define WIDTH 360.0
#define LEFT 40.0   // room for the numbers of the y axis
#define RIGHT 352.0 // end of the x axis
#define TOP 10.0
// A window of fewer pairs says nothing, and its interval would be most of the picture.
#define PAIRS_DRAWN_MIN 8u

static void open_picture(struct rmj_buf *out, const char *style, double height, const char *label)
{
    // Bars have no letters: they are stretched to the width and keep the height of the style sheet.
    rmj_buf_printf(out, "<svg class=\"%s\" viewBox=\"0 0 %.0f %.0f\"%s role=\"img\" aria-label=\"", style, WIDTH,
                   height, strcmp(style, "chart") == 0 ? "" : " preserveAspectRatio=\"none\"");
    rmj_page_text(out, label);
    rmj_buf_puts(out, "\">");
}

static double clamp(double value, double low, double high)
{
    return !(value >= low) ? low : value > high ? high : value;
}

void rmj_page_parts(struct rmj_buf *out, const char *label, const struct rmj_page_part *parts, size_t count)
{
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++) {
        all += parts[i].count;
    }
    open_picture(out, "bar", 22, label);
    double x = 0;
    for (size_t i = 0; i < count && all > 0; i++) {
        double width = WIDTH * (double)parts[i].count / (double)all;
        if (parts[i].count > 0) {
            // What is there is seen, however little it is.
            rmj_buf_printf(out, "<rect class=\"%s\" x=\"%.2f\" y=\"0\" width=\"%.2f\" height=\"22\"><title>",
                           parts[i].style, clamp(x, 0, WIDTH - 1), width < 1 ? 1 : width);
            rmj_page_text(out, parts[i].name);
            rmj_buf_puts(out, "</title></rect>");
        }
        x += width;
    }
    rmj_buf_puts(out, "</svg>\n<ul class=\"legend\">");
    for (size_t i = 0; i < count; i++) {
        rmj_buf_printf(out, "<li><i class=\"%s\"></i>", parts[i].style);
        rmj_page_text(out, parts[i].name);
        rmj_buf_puts(out, " <b>");
        rmj_page_count(out, parts[i].count);
        rmj_buf_puts(out, "</b>");
        if (all > 0) {
            rmj_buf_printf(out, " <small>%.1f %%</small>", 100 * (double)parts[i].count / (double)all);
        }
        rmj_buf_puts(out, "</li>");
    }
    rmj_buf_puts(out, "</ul>\n");
}

// "512", "4k", "2M": ends of buckets are powers of two.
static void put_tokens(char *text, size_t size, uint64_t tokens)
{
    if (tokens >= (uint64_t)1 << 20) {
        snprintf(text, size, "%lluM", (unsigned long long)(tokens >> 20));
    } else if (tokens >= 1024) {
        snprintf(text, size, "%lluk", (unsigned long long)(tokens >> 10));
    } else {
        snprintf(text, size, "%llu", (unsigned long long)tokens);
    }
}

static void length_bar(struct rmj_buf *out, const char *style, const char *side, double x, double width, double base,
                       double height, const Rmjob__V1__DataLengthBucket *bucket, uint64_t count)
{
    rmj_buf_printf(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>", style, x,
                   base - height, width, height);
    rmj_page_count(out, count);
    rmj_buf_printf(out, " %s sides of up to ", side);
    rmj_page_count(out, bucket->up_to_tokens);
    rmj_buf_puts(out, " tokens</title></rect>");
}

void rmj_page_lengths(struct rmj_buf *out, const char *label, Rmjob__V1__DataLengthBucket *const *buckets, size_t count)
{
    const double base = 138, room = base - TOP - 8;
    uint64_t most = 1;
    for (size_t i = 0; i < count; i++) {
        most = buckets[i]->chosen > most ? buckets[i]->chosen : most;
        most = buckets[i]->rejected > most ? buckets[i]->rejected : most;
    }
    double step = (RIGHT - LEFT) / (double)(count == 0 ? 1 : count);
    step = step > 44 ? 44 : step;
    open_picture(out, "chart", 172, label);
    for (int i = 0; i <= 2; i++) {
        double y = base - room * i / 2;
        rmj_buf_printf(out, "<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, RIGHT, y,
                       y);
        rmj_buf_printf(out, "<text class=\"e\" x=\"%.0f\" y=\"%.1f\">", LEFT - 5, y + 4);
        if (i == 0 || most * (uint64_t)i % 2 == 0) {
            rmj_page_count(out, most * (uint64_t)i / 2);
        }
        rmj_buf_puts(out, "</text>");
    }
    for (size_t i = 0; i < count; i++) {
        double x = LEFT + step * ((double)i + 0.1), width = step * 0.38;
        char tokens[24];
        length_bar(out, "chosen", "chosen", x, width, base, room * (double)buckets[i]->chosen / (double)most,
                   buckets[i], buckets[i]->chosen);
        length_bar(out, "rejected", "rejected", x + width, width, base,
                   room * (double)buckets[i]->rejected / (double)most, buckets[i], buckets[i]->rejected);
        put_tokens(tokens, sizeof tokens, buckets[i]->up_to_tokens);
        // Every second one where they would touch; the last is always there.
        if (count <= 12 || (count - 1 - i) % 2 == 0) {
            rmj_buf_printf(out, "<text class=\"m\" x=\"%.1f\" y=\"%.0f\">%s</text>", x + width, base + 14, tokens);
        }
    }
    rmj_buf_printf(out, "<text x=\"%.0f\" y=\"168\">up to so many tokens a side</text></svg>\n", LEFT);
}

void rmj_page_share(struct rmj_buf *out, const char *label, double share)
{
    open_picture(out, "share", 18, label);
    rmj_buf_printf(out,
                   "<rect class=\"track\" x=\"0\" y=\"4\" width=\"%.0f\" height=\"10\"/><rect class=\"chosen\" x=\"0\" "
                   "y=\"4\" width=\"%.2f\" height=\"10\"/><line class=\"mark\" x1=\"%.0f\" x2=\"%.0f\" y1=\"0\" "
                   "y2=\"18\"/></svg>\n",
                   WIDTH, WIDTH * clamp(share, 0, 1), WIDTH / 2, WIDTH / 2);
}

// A plane of steps and values.
struct plane {
    double first, last; // steps
    double low, high, tick;
    double base, room;
};

static double x_of(const struct plane *plane, double step)
{
    double span = plane->last - plane->first;
    return LEFT + (RIGHT - LEFT) * clamp(span > 0 ? (step - plane->first) / span : 0.5, 0, 1);
}

static double y_of(const struct plane *plane, double value)
{
    return plane->base - plane->room * clamp((value - plane->low) / (plane->high - plane->low), 0, 1);
}

struct point {
    double step, value, low, high;
};

static int point_of(const Rmjob__V1__StreamWindow *window, int margin, struct point *point)
{
    point->step = ((double)window->first_step + (double)window->last_step) / 2;
    point->value = margin ? window->mean_margin : window->accuracy;
    point->low = margin ? window->mean_margin - 1.96 * window->margin_error : window->low;
    point->high = margin ? window->mean_margin + 1.96 * window->margin_error : window->high;
    return window->pairs >= PAIRS_DRAWN_MIN && isfinite(point->value) && isfinite(point->low) && isfinite(point->high);
}

// Rounds the range outwards to ticks of 1, 2 or 5 times a power of ten, of which there are at most six.
static void round_range(struct plane *plane)
{
    static const double factors[] = {2, 2.5, 2};
    double span = plane->high - plane->low;
    plane->tick = 1e-6;
    for (int i = 0; span / plane->tick > 5 && i < 60; i++) {
        plane->tick *= factors[i % 3];
    }
    plane->low = floor(plane->low / plane->tick + 1e-9) * plane->tick;
    plane->high = ceil(plane->high / plane->tick - 1e-9) * plane->tick;
    if (!(plane->high > plane->low)) {
        plane->high = plane->low + plane->tick;
    }
}

static int find_range(const Rmjob__V1__TrainingReport *training, int margin, struct plane *plane)
{
    int found = 0;
    for (size_t i = 0; i < training->n_sources && i < RMJ_PAGE_LINES_MAX; i++) {
        for (size_t k = 0; k < training->sources[i]->n_windows; k++) {
            const Rmjob__V1__StreamWindow *window = training->sources[i]->windows[k];
            struct point point;
            if (!point_of(window, margin, &point)) {
                continue;
            }
            if (!found) {
                plane->first = window->first_step;
                plane->last = window->last_step;
                // Chance, or no margin, is always in the picture.
                plane->low = plane->high = margin ? 0 : 0.5;
                found = 1;
            }
            plane->first = window->first_step < plane->first ? window->first_step : plane->first;
            plane->last = window->last_step > plane->last ? window->last_step : plane->last;
            plane->low = point.low < plane->low ? point.low : plane->low;
            plane->high = point.high > plane->high ? point.high : plane->high;
        }
    }
    if (found) {
        round_range(plane);
    }
    return found;
}

static void put_axes(struct rmj_buf *out, const struct plane *plane, int margin)
{
    int ticks = (int)clamp((plane->high - plane->low) / plane->tick + 0.5, 1, 10);
    for (int i = 0; i <= ticks; i++) {
        double value = plane->low + i * plane->tick, y = y_of(plane, value);
        rmj_buf_printf(out, "<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, RIGHT, y,
                       y);
        rmj_buf_printf(out, "<text class=\"e\" x=\"%.0f\" y=\"%.1f\">", LEFT - 5, y + 4);
        if (margin) {
            rmj_buf_printf(out, "%.*f",
                           plane->tick >= 1      ? 0
                           : plane->tick >= 0.1  ? 1
                           : plane->tick >= 0.01 ? 2
                                                 : 3,
                           fabs(value) < plane->tick / 4 ? 0 : value);
        } else {
            rmj_buf_printf(out, "%.*f %%", plane->tick >= 0.0099 ? 0 : 1, 100 * value);
        }
        rmj_buf_puts(out, "</text>");
    }
    double y = y_of(plane, margin ? 0 : 0.5);
    rmj_buf_printf(out, "<line class=\"mark\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, RIGHT, y, y);
    y = plane->base + 16;
    rmj_buf_printf(out, "<text x=\"%.0f\" y=\"%.0f\">step %.0f</text>", LEFT, y, plane->first);
    if (plane->last > plane->first) {
        rmj_buf_printf(out, "<text class=\"e\" x=\"%.0f\" y=\"%.0f\">step %.0f</text>", RIGHT, y, plane->last);
    }
}

static void put_line(struct rmj_buf *out, const struct plane *plane, const Rmjob__V1__StreamSource *source,
                     size_t number, int margin)
{
    struct point point;
    rmj_buf_printf(out, "<polygon class=\"band s%zu\" points=\"", number);
    for (size_t k = 0; k < source->n_windows; k++) {
        if (point_of(source->windows[k], margin, &point)) {
            rmj_buf_printf(out, "%.1f,%.1f ", x_of(plane, point.step), y_of(plane, point.high));
        }
    }
    for (size_t k = source->n_windows; k-- > 0;) {
        if (point_of(source->windows[k], margin, &point)) {
            rmj_buf_printf(out, "%.1f,%.1f ", x_of(plane, point.step), y_of(plane, point.low));
        }
    }
    rmj_buf_printf(out, "\"/><polyline class=\"line s%zu\" points=\"", number);
    for (size_t k = 0; k < source->n_windows; k++) {
        if (point_of(source->windows[k], margin, &point)) {
            rmj_buf_printf(out, "%.1f,%.1f ", x_of(plane, point.step), y_of(plane, point.value));
        }
    }
    rmj_buf_puts(out, "\"/>");
    for (size_t k = 0; k < source->n_windows; k++) {
        const Rmjob__V1__StreamWindow *window = source->windows[k];
        if (!point_of(window, margin, &point)) {
            continue;
        }
        rmj_buf_printf(out, "<circle class=\"dot s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.4\"><title>", number,
                       x_of(plane, point.step), y_of(plane, point.value));
        rmj_page_text(out, source->name != NULL ? source->name : source->path);
        rmj_buf_printf(
            out, margin ? ", steps %u to %u: %.3f (%.3f to %.3f), " : ", steps %u to %u: %.1f %% (%.1f to %.1f), ",
            window->first_step, window->last_step, (margin ? 1 : 100) * point.value, (margin ? 1 : 100) * point.low,
            (margin ? 1 : 100) * point.high);
        rmj_page_count(out, window->pairs);
        rmj_buf_puts(out, " pairs</title></circle>");
    }
}

void rmj_page_stream(struct rmj_buf *out, const Rmjob__V1__TrainingReport *training, int margin)
{
    struct plane plane = {.base = 180, .room = 180 - TOP};
    if (!find_range(training, margin, &plane)) {
        rmj_buf_puts(out, "<p>no window yet</p>\n");
        return;
    }
    open_picture(out, "chart", 204, margin ? "mean margin by step and source" : "accuracy by step and source");
    put_axes(out, &plane, margin);
    for (size_t i = 0; i < training->n_sources && i < RMJ_PAGE_LINES_MAX; i++) {
        put_line(out, &plane, training->sources[i], i, margin);
    }
    rmj_buf_puts(out, "</svg>\n");
}
