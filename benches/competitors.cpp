// What the step is compared with, on the same rows, one thread: a pass that sums them, a full sort of
// (logit, id) pairs, and, compiled with WITH_LLAMA, llama.cpp's own chain. One line each: name,
// vocabulary, batch, microseconds a row. Usage: competitors FOLDER VOCAB...
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>
#ifdef WITH_LLAMA
#include "llama.h"
#endif

using timer = std::chrono::steady_clock;
static volatile float sink;

template <typename Work> static void measure(const char *name, size_t vocab, size_t batch, Work work) {
    for (size_t i = 0; i < batch; i++) work(i);
    double least = 1e18;
    auto start = timer::now();
    while (timer::now() - start < std::chrono::milliseconds(60)) {
        auto began = timer::now();
        for (size_t i = 0; i < batch; i++) work(i);
        double took = std::chrono::duration<double, std::micro>(timer::now() - began).count();
        least = std::min(least, took / double(batch));
    }
    printf("%s\t%zu\t%zu\t%.3f\n", name, vocab, batch, least);
}

// Sums in 64 lanes: as many additions side by side as any processor keeps busy.
static float sum(const float *row, size_t vocab) {
    float lanes[64] = {};
    size_t i = 0;
    for (; i + 64 <= vocab; i += 64)
        for (size_t lane = 0; lane < 64; lane++) lanes[lane] += row[i + lane];
    float total = 0;
    for (float lane : lanes) total += lane;
    for (; i < vocab; i++) total += row[i];
    return total;
}

static std::vector<float> read_rows(const std::string &folder, size_t vocab) {
    std::vector<float> rows(64 * vocab);
    std::ifstream file(folder + "/" + std::to_string(vocab) + ".f32", std::ios::binary);
    if (!file.read(reinterpret_cast<char *>(rows.data()), std::streamsize(rows.size() * sizeof(float)))) {
        fprintf(stderr, "no rows of %zu logits in %s\n", vocab, folder.c_str());
        exit(1);
    }
    return rows;
}

int main(int argc, char **argv) {
    for (int arg = 2; arg < argc; arg++) {
        size_t vocab = std::stoul(argv[arg]);
        std::vector<float> rows = read_rows(argv[1], vocab);
        for (size_t batch : {1, 8, 64})
            measure("sum", vocab, batch, [&](size_t i) { sink = sum(&rows[i * vocab], vocab); });
        std::vector<std::pair<float, unsigned>> pairs(vocab);
        measure("sort", vocab, 8, [&](size_t i) {
            const float *row = &rows[i * vocab];
            for (unsigned id = 0; id < vocab; id++) pairs[id] = {row[id], id};
            std::sort(pairs.begin(), pairs.end(), [](const auto &a, const auto &b) {
                return a.first > b.first || (a.first == b.first && a.second < b.second);
            });
            sink = pairs[49].first;
        });
#ifdef WITH_LLAMA
        llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(50));
        llama_sampler_chain_add(chain, llama_sampler_init_temp(1.0f));
        llama_sampler_chain_add(chain, llama_sampler_init_dist(1));
        std::vector<llama_token_data> candidates(vocab);
        // The candidates are filled as llama.cpp's own tools do it before every token.
        measure("llama.cpp", vocab, 8, [&](size_t i) {
            const float *row = &rows[i * vocab];
            for (size_t id = 0; id < vocab; id++)
                candidates[id] = llama_token_data{llama_token(id), row[id], 0.0f};
            llama_token_data_array array = {candidates.data(), vocab, -1, false};
            llama_sampler_apply(chain, &array);
            sink = float(array.data[array.selected].id);
        });
        llama_sampler_free(chain);
#endif
    }
}
