/* Scripts that read: one call sees one moment of a shard, and one round trip reads an index with what it points to. */
#ifndef API_VIEW_SCRIPTS_H
#define API_VIEW_SCRIPTS_H

/* Rollups of a team in order of their start. */
extern const char view_script_rollups[];
/* Runs of a team, newest first. */
extern const char view_script_runs[];
/* Ledger rows of a team, newest hour first. */
extern const char view_script_revisions[];

#endif
