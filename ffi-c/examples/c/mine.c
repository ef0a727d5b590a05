// Mines a text of a synthetic model through the C header, or checks proof files.
//
//   mine              draws 600 tokens on an easy job; proofs go where the environment says
//                     (POW_EGRESS_MODE, ZMQ_PUSH_HOST, ZMQ_PUSH_PORT, PROOF_SAVE_DIR)
//   mine FILE...      self-checks proofs that were saved
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tensorpow.h>

enum { VOCABULARY = 512, TOKENS = 600 };

// Stands in for a forward pass: logits that depend on the last token only.
static void forward(int32_t last, float *logits) {
    uint32_t noise = 2463534242u + (uint32_t)last * 2654435761u;
    for (int id = 0; id < VOCABULARY; id++) {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        logits[id] = (float)(noise >> 8) / 16777216.0f * 4.0f;
    }
}

// A `pow` payload as the proxy would put it into a request: repeated bytes instead of a real
// header and VDF blob, and a target that nearly every window meets.
static char *easy_job(void) {
    static char json[2048];
    char parent[65], header[153], vdf[401];
    for (int i = 0; i < 32; i++) memcpy(parent + 2 * i, "11", 3);
    for (int i = 0; i < 72; i++) memcpy(header + 2 * i, "11", 3);
    memcpy(header + 144, "ffff0021", 9);
    for (int i = 0; i < 200; i++) memcpy(vdf + 2 * i, "22", 3);
    snprintf(json, sizeof json,
             "{\"block_hash\":\"%s\",\"header_prefix\":\"%s\",\"vdf\":\"%s\",\"tick\":1000,"
             "\"target\":\"ffff%060d\",\"request_id\":1,\"difficulty\":1000000}",
             parent, header, vdf, 0);
    return json;
}

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, tensorpow_last_error());
    return 1;
}

static int print_metrics(tensorpow_engine *engine) {
    size_t needed = 0;
    if (tensorpow_metrics(engine, NULL, 0, &needed) != TENSORPOW_STATUS_OK) return fail("metrics");
    size_t room = needed + 256;
    char *text = malloc(room);
    if (text == NULL || tensorpow_metrics(engine, text, room, &needed) != TENSORPOW_STATUS_OK) {
        free(text);
        return fail("metrics");
    }
    printf("%.*s", (int)(needed <= room ? needed : 0), text);
    free(text);
    return 0;
}

static int mine(void) {
    tensorpow_engine_args engine_args = {0};
    engine_args.size = sizeof engine_args;
    engine_args.engine = "example in C";
    engine_args.model_identifier = "synthetic/model@0123456789abcdef";
    engine_args.compute_precision = "bf16";
    tensorpow_engine *engine = NULL;
    if (tensorpow_engine_new(&engine_args, &engine) != TENSORPOW_STATUS_OK) return fail("engine");

    const int32_t prompt[] = {1, 2, 3};
    const char *pow_json = easy_job();
    tensorpow_begin_args args = {0};
    args.size = sizeof args;
    args.pow_json = pow_json;
    args.pow_json_len = strlen(pow_json);
    args.completion_id = "cmpl-example";
    args.temperature = 1.0f;
    args.top_k = 50;
    args.top_p = 1.0f;
    args.repetition_penalty = 1.0f;
    args.n_vocab = VOCABULARY;
    args.prompt = prompt;
    args.n_prompt = sizeof prompt / sizeof prompt[0];

    int failed = 0;
    tensorpow_sequence *sequence = NULL;
    if (tensorpow_begin(engine, &args, &sequence) != TENSORPOW_STATUS_OK) failed = fail("begin");
    int32_t token = prompt[2];
    for (int i = 0; !failed && i < TOKENS; i++) {
        float logits[VOCABULARY];
        forward(token, logits);
        if (tensorpow_sample(sequence, logits, VOCABULARY, &token) != TENSORPOW_STATUS_OK) {
            failed = fail("sample");
        }
    }
    tensorpow_end(sequence, failed ? TENSORPOW_END_REASON_ERROR : TENSORPOW_END_REASON_FINISHED);
    if (!failed) failed = print_metrics(engine);
    tensorpow_engine_free(engine); // sends what is finished, for a second at most
    return failed;
}

static int check(const char *path) {
    enum { ROOM = 1 << 20 };
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    uint8_t *bytes = malloc(ROOM);
    size_t len = bytes == NULL ? 0 : fread(bytes, 1, ROOM, file);
    fclose(file);
    int32_t accepted = 0;
    char report[1024];
    size_t needed = 0;
    uint8_t commitment[32];
    tensorpow_status status =
        tensorpow_proof_check(bytes, len, NULL, &accepted, report, sizeof report, &needed);
    if (status == TENSORPOW_STATUS_OK) status = tensorpow_proof_commitment(bytes, len, commitment);
    free(bytes);
    if (status != TENSORPOW_STATUS_OK) return fail(path);
    printf("%s: %s\n%.*s\ncommitment: ", path, accepted ? "accepted" : "REJECTED",
           (int)(needed <= sizeof report ? needed : 0), report);
    for (int i = 0; i < 32; i++) printf("%02x", (unsigned)commitment[i]);
    printf("\n");
    return accepted ? 0 : 1;
}

int main(int argc, char **argv) {
    printf("tensorpow %s\n", tensorpow_version());
    if (argc < 2) return mine();
    int failed = 0;
    for (int i = 1; i < argc; i++) failed |= check(argv[i]);
    return failed;
}
