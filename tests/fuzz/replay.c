/* Runs a fuzz target over every file of a corpus directory: fuzzing's findings stay found in every build.
 * An empty or missing corpus is an error: a test that reads nothing proves nothing. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 4 << 20 };

static int replay_file(const char *path, uint8_t *buffer)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    size_t size = fread(buffer, 1, INPUT_BYTES_MAX, f);
    fclose(f);
    /* an exact-size heap copy, so that ASan sees one byte too far */
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) return -1;
    for (size_t i = 0; i < size; i++) exact[i] = buffer[i];
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_DIR\n", argv[0]);
        return 2;
    }
    DIR *dir = opendir(argv[1]);
    uint8_t *buffer = malloc(INPUT_BYTES_MAX);
    if (!dir || !buffer) {
        perror(argv[1]);
        return 1;
    }
    unsigned count = 0;
    int status = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        if (replay_file(path, buffer)) status = 1;
        count++;
    }
    closedir(dir);
    free(buffer);
    printf("%u inputs replayed\n", count);
    return count == 0 ? 1 : status;
}
