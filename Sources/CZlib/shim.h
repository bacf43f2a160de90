#include <zlib.h>

/* deflateInit2 is a macro, which Swift does not import. 16 + MAX_WBITS asks for a gzip header. */
static inline int reeve_gzip_init(z_stream *stream, int level) {
    return deflateInit2(stream, level, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
}
