#include "slots.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void slots_init(struct slots *slots, uint32_t capacity)
{
    *slots = (struct slots){.capacity = capacity};
    slots->slots = calloc(capacity, sizeof *slots->slots);
    slots->heap = calloc(capacity, sizeof *slots->heap);
    assert(slots->slots != NULL && slots->heap != NULL);
    for (int i = 0; i < SLOT_STATES; i++) {
        slots->lists[i].items = calloc(capacity, sizeof *slots->lists[i].items);
        assert(slots->lists[i].items != NULL);
    }
    struct slot_list *unused = &slots->lists[SLOT_FREE];
    for (uint32_t i = 0; i < capacity; i++) {
        slots->slots[i].list_at = i;
        unused->items[unused->count++] = i;
    }
}

void slots_destroy(struct slots *slots)
{
    free(slots->slots);
    free(slots->heap);
    for (int i = 0; i < SLOT_STATES; i++) free(slots->lists[i].items);
    *slots = (struct slots){0};
}

void slots_move(struct slots *slots, uint32_t at, enum slot_state state)
{
    struct slot *slot = &slots->slots[at];
    struct slot_list *from = &slots->lists[slot->state];
    uint32_t last = from->items[--from->count];
    from->items[slot->list_at] = last;
    slots->slots[last].list_at = slot->list_at;
    struct slot_list *to = &slots->lists[state];
    slot->list_at = to->count;
    slot->state = (uint8_t)state;
    to->items[to->count++] = at;
    if (state == SLOT_FREE && slot->lasting) {
        slot->lasting = 0;
        slots->lasting--;
    }
}

static bool earlier(const struct slots *slots, uint32_t a, uint32_t b)
{
    const struct slot *x = &slots->slots[slots->heap[a]], *y = &slots->slots[slots->heap[b]];
    return x->due_ms != y->due_ms ? x->due_ms < y->due_ms : slots->heap[a] < slots->heap[b];
}

static void swap(struct slots *slots, uint32_t a, uint32_t b)
{
    uint32_t held = slots->heap[a];
    slots->heap[a] = slots->heap[b];
    slots->heap[b] = held;
}

void slots_schedule(struct slots *slots, uint32_t at)
{
    assert(slots->heap_count < slots->capacity);
    uint32_t i = slots->heap_count++;
    slots->heap[i] = at;
    for (; i > 0 && earlier(slots, i, (i - 1) / 2); i = (i - 1) / 2) swap(slots, i, (i - 1) / 2);
}

uint64_t slots_next_due(const struct slots *slots)
{
    return slots->heap_count == 0 ? SLOT_NEVER : slots->slots[slots->heap[0]].due_ms;
}

uint32_t slots_pop(struct slots *slots)
{
    assert(slots->heap_count > 0);
    uint32_t top = slots->heap[0];
    slots->heap[0] = slots->heap[--slots->heap_count];
    for (uint32_t i = 0;;) {
        uint32_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < slots->heap_count && earlier(slots, left, least)) least = left;
        if (right < slots->heap_count && earlier(slots, right, least)) least = right;
        if (least == i) return top;
        swap(slots, i, least);
        i = least;
    }
}

void slots_unschedule_all(struct slots *slots)
{
    slots->heap_count = 0;
}
