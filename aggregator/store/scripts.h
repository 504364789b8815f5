/* The scripts that write the view or read what is to be written. Lua texts; their addresses are their names for
 * redis_store.h. All keys of a call are of one shard. */
#ifndef STORE_SCRIPTS_H
#define STORE_SCRIPTS_H

/* Why: cells may only be written while the vector is what the writer last saw; checked and written in one step.
 * KEYS v, meta. ARGV n, n x (partition, entry as last seen or ""), k, k x (key, field, what it must say or ""), then
 * commands: count, count words. Beside Redis' own commands: ENDED ra re sandbox ms prefix run, ALIVE ra re
 * sandbox ms prefix run, TRIM index prefix team. Gives ok, mismatch (nothing is written), notready (likewise). */
extern const char script_flush[];

/* Why: a cell is used only if it was read together with the vector that the reader knows.
 * KEYS v, meta. ARGV n, n x (partition, entry as last seen or ""), then key, field, ... Gives mismatch or notready, or
 * the list of values. */
extern const char script_read[];

/* Why: vector and marks must be of one moment.
 * KEYS v, meta, then of each home partition asked for: marks:<p>, cap:<p>. ARGV partitions asked for.
 * Gives meta as a list, the entries, the hashes. */
extern const char script_know[];

/* Why: an empty or half restored shard must not be taken for a view, and a shard of other measures must not be written;
 * one at a time restores it, and whoever comes later waits as long as that one makes progress.
 * KEYS meta. ARGV format, shards, partitions, owner (new for each attempt), progress seen last or "".
 * Gives a pair: ready / mismatch / busy and the progress / restoring: owner is to restore it, from the beginning. */
extern const char script_claim[];

/* Why: what is newer stays, so that a restore can be begun again at any time; and what earlier calls have written must
 * still be there.
 * KEYS meta. ARGV prefix of the shard's keys, owner, calls made before, then any of: cell u:<...> p "@off ..." / gap
 * gaps:<p> field value / marks p at n followed by n x (field, value). Gives ok or taken (nothing is written: somebody
 * else restores, or the shard was emptied or went back). */
extern const char script_restore[];

/* The restore is complete. KEYS meta. ARGV owner, calls made. Gives ok or taken. */
extern const char script_ready[];

#endif
