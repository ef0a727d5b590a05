#!/bin/sh
# Installs the library, compiles the C and the C++ example against it in every way it offers, runs
# each, and checks the proofs they saved. What the machine lacks is printed as skipped.
#
#   ffi-c/tests/examples.sh [--debug]
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
CC=${CC:-cc}
CXX=${CXX:-c++}
C_FLAGS="-std=c99 -Wall -Wextra -Wpedantic -Werror -O1"
CXX_FLAGS="-std=c++14 -Wall -Wextra -Wpedantic -Werror -O1"

"$here/install" --prefix "$prefix" "$@"
PKG_CONFIG_PATH=$prefix/lib/pkgconfig
export PKG_CONFIG_PATH

passed=0
skipped=0

skip() {
    echo "skipped: $1 ($2)"
    skipped=$((skipped + 1))
}

# run NAME PROGRAM: mines, expects two saved proofs of the program and every counter at its value.
run() {
    name=$1
    program=$2
    proofs=$work/proofs-$name
    mkdir "$proofs"
    # Nobody listens on port 9: the proofs are saved, and the end may take its full second.
    if ! POW_EGRESS_MODE=broker ZMQ_PUSH_PORT=9 PROOF_SAVE_DIR=$proofs \
        LD_LIBRARY_PATH=$prefix/lib DYLD_LIBRARY_PATH=$prefix/lib \
        "$program" >"$work/$name.out" 2>"$work/$name.err"; then
        echo "FAILED: $name"
        cat "$work/$name.out" "$work/$name.err"
        exit 1
    fi
    for line in 'tensorpow_tokens_total 600' 'tensorpow_sequences_started_total 1' \
        'tensorpow_sequences_active 0' 'tensorpow_sequences_ended_total{reason="finished"} 1'; do
        grep -qxF "$line" "$work/$name.out" || {
            echo "FAILED: $name does not print: $line"
            exit 1
        }
    done
    count=$(find "$proofs" -name '*.bin' | wc -l)
    [ "$count" -eq 2 ] || {
        echo "FAILED: $name saved $count proofs, not 2"
        exit 1
    }
    LD_LIBRARY_PATH=$prefix/lib DYLD_LIBRARY_PATH=$prefix/lib "$work/c-static" "$proofs"/*.bin \
        >"$work/$name.checked"
    [ "$(grep -c ': accepted$' "$work/$name.checked")" -eq 2 ]
    echo "ok: $name"
    passed=$((passed + 1))
}

static_libs="$prefix/lib/libtensorpow.a $(sed -n 's/^Libs: [^ ]* //p' "$PKG_CONFIG_PATH/tensorpow-static.pc")"
bridge="$prefix/share/tensorpow/cxx/tensorpow.cc $prefix/share/tensorpow/cxx/cxx.cc"
# shellcheck disable=SC2086 # lists of words
{
    $CC $C_FLAGS -I"$prefix/include" "$here/examples/c/mine.c" $static_libs -o "$work/c-static"
    $CC $C_FLAGS -I"$prefix/include" "$here/examples/c/mine.c" -L"$prefix/lib" -ltensorpow \
        -o "$work/c-shared"
    $CXX $CXX_FLAGS -I"$prefix/include" "$here/examples/cpp/mine.cpp" $bridge $static_libs \
        -o "$work/cpp-static"
    $CXX $CXX_FLAGS -I"$prefix/include" "$here/examples/cpp/mine.cpp" $bridge -L"$prefix/lib" \
        -ltensorpow -o "$work/cpp-shared"
}
run c-static "$work/c-static"
run c-shared "$work/c-shared"
run cpp-static "$work/cpp-static"
run cpp-shared "$work/cpp-shared"

if command -v pkg-config >/dev/null; then
    # shellcheck disable=SC2046,SC2086 # lists of words
    for kind in tensorpow tensorpow-static; do
        flags=$(pkg-config --cflags --libs $kind)
        sources=$(pkg-config --variable=cxx_sources $kind)
        $CC $C_FLAGS "$here/examples/c/mine.c" $flags -o "$work/c-$kind-pc"
        $CXX $CXX_FLAGS "$here/examples/cpp/mine.cpp" $sources $flags -o "$work/cpp-$kind-pc"
        run "c-$kind-pc" "$work/c-$kind-pc"
        run "cpp-$kind-pc" "$work/cpp-$kind-pc"
    done
else
    skip "four examples by pkg-config" "pkg-config is not on the path"
fi

if command -v cmake >/dev/null; then
    for static in OFF ON; do
        build=$work/cmake-$static
        cmake -S "$here/tests/cmake" -B "$build" -DCMAKE_PREFIX_PATH="$prefix" \
            -DTENSORPOW_STATIC=$static >"$build.log"
        cmake --build "$build" >>"$build.log" || {
            cat "$build.log"
            exit 1
        }
        run "c-cmake-static-$static" "$build/mine-c"
        run "cpp-cmake-static-$static" "$build/mine-cpp"
    done
else
    skip "four examples by CMake" "cmake is not on the path"
fi

# Settings that refuse the start say which variable, and the program lives to tell.
if POW_EGRESS_MODE=Broker "$work/c-static" >/dev/null 2>"$work/refused.err"; then
    echo "FAILED: POW_EGRESS_MODE=Broker must refuse the start"
    exit 1
fi
grep -qF 'engine: POW_EGRESS_MODE="Broker" is not known' "$work/refused.err"
echo "ok: refused-start"
passed=$((passed + 1))

# A proof that was cut on its way is found out.
cut=$work/cut.bin
find "$work/proofs-c-static" -name '*.bin' -exec head -c 100000 {} \; -quit >"$cut"
if "$work/c-static" "$cut" >/dev/null 2>"$work/cut.err"; then
    echo "FAILED: a cut proof must not be accepted"
    exit 1
fi
grep -qF "$cut: " "$work/cut.err"
echo "ok: cut-proof"
passed=$((passed + 1))

echo "$passed passed, $skipped skipped"
