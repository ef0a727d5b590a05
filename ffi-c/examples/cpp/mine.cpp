// Mines a text of a synthetic model through the C++ bridge: draws 600 tokens on an easy job.
// Proofs go where the environment says (POW_EGRESS_MODE, ZMQ_PUSH_HOST, ZMQ_PUSH_PORT,
// PROOF_SAVE_DIR).
#include <array>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

#include <tensorpow.h>
#include <tensorpow.hpp>

namespace {

constexpr std::uint32_t vocabulary = 512;

// Stands in for a forward pass: logits that depend on the last token only.
std::array<float, vocabulary> forward(std::int32_t last) {
    std::array<float, vocabulary> logits;
    std::uint32_t noise = 2463534242u + static_cast<std::uint32_t>(last) * 2654435761u;
    for (float &logit : logits) {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        logit = static_cast<float>(noise >> 8) / 16777216.0f * 4.0f;
    }
    return logits;
}

std::string repeat(const std::string &text, int times) {
    std::string all;
    for (int i = 0; i < times; i++) all += text;
    return all;
}

// A `pow` payload as the proxy would put it into a request: repeated bytes instead of a real
// header and VDF blob, and a target that nearly every window meets.
std::string easy_job() {
    return "{\"block_hash\":\"" + repeat("11", 32) + "\",\"header_prefix\":\"" +
           repeat("11", 72) + "ffff0021\",\"vdf\":\"" + repeat("22", 200) +
           "\",\"tick\":1000,\"target\":\"ffff" + repeat("0", 60) +
           "\",\"request_id\":2,\"difficulty\":1000000}";
}

tensorpow::Request request(const std::string &pow, const std::array<std::int32_t, 3> &prompt) {
    tensorpow::Request request{};
    request.pow_json = pow;
    request.completion_id = "cmpl-example";
    request.temperature = 1.0f;
    request.top_k = 50;
    request.top_p = 1.0f;
    request.repetition_penalty = 1.0f;
    request.n_vocab = vocabulary;
    request.prompt = rust::Slice<const std::int32_t>(prompt.data(), prompt.size());
    return request;
}

int mine() {
    tensorpow::EngineOptions options{};
    options.engine = "example in C++";
    options.model_identifier = "synthetic/model@0123456789abcdef";
    options.compute_precision = "bf16";
    const auto engine = tensorpow::make_engine(options);

    const std::array<std::int32_t, 3> prompt{1, 2, 3};
    const std::string pow = easy_job();
    auto sequence = engine->begin(request(pow, prompt));
    std::int32_t token = prompt.back();
    for (int i = 0; i < 600; i++) {
        const auto logits = forward(token);
        if (!sequence->sample({logits.data(), logits.size()}, token)) {
            std::cerr << "not mined: " << std::string(sequence->why_not()) << "\n";
            return 1;
        }
    }
    tensorpow::end(std::move(sequence), tensorpow::EndReason::Finished);

    auto excluded = request(pow, prompt);
    excluded.exclusions = TENSORPOW_EXCLUDE_GRAMMAR;
    const auto unmined = engine->begin(excluded);
    std::cout << "mined: " << unmined->mined() << ", " << std::string(unmined->why_not()) << "\n"
              << std::string(engine->metrics());
    return unmined->mined() ? 1 : 0;
}

// A VDF proof made and judged: it holds for its own number of squarings and for no other.
bool vdf() {
    const std::array<std::uint8_t, 32> challenge{7};
    const auto blob = tensorpow::vdf_prove(challenge, 1000);
    const rust::Slice<const std::uint8_t> bytes(blob.data(), blob.size());
    return tensorpow::vdf_verify(challenge, 1000, bytes) &&
           !tensorpow::vdf_verify(challenge, 1001, bytes);
}

} // namespace

int main() {
    std::cout << "tensorpow " << tensorpow_version() << "\n";
    try {
        if (!vdf()) return 1;
        return mine(); // the engine's box sends what is finished, for a second at most
    } catch (const std::exception &error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
