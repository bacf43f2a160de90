#include <sys/types.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <microhttpd.h>

/* What the daemon calls, each with the same context. */
struct reeve_mhd_callbacks {
    /* Called once per request with the unparsed target. Returns the state of the request. */
    void *(*begin)(void *context, const char *target, struct MHD_Connection *connection);
    MHD_AccessHandlerCallback handle;
    MHD_RequestCompletedCallback completed;
    MHD_NotifyConnectionCallback notify;
    void *context;
};

/* MHD_start_daemon is variadic, which Swift does not import; the option array says the same. */
static inline struct MHD_Daemon *reeve_mhd_start(
    unsigned int flags, const struct reeve_mhd_callbacks *callbacks, int listen_socket,
    unsigned int connections, unsigned int timeout_seconds, unsigned int memory_limit) {
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, listen_socket, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)connections, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)timeout_seconds, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)memory_limit, NULL},
        /* Before 1.0 this only adds errors in libmicrohttpd's own format that the server reports itself: a missing Host, a
           space in the URL. */
        {MHD_OPTION_STRICT_FOR_CLIENT, MHD_VERSION < 0x01000000 ? 0 : 1, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)callbacks->begin, callbacks->context},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)callbacks->completed, callbacks->context},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)callbacks->notify, callbacks->context},
        {MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(flags, 0, NULL, NULL, callbacks->handle, callbacks->context,
                            MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

/* MHD_get_connection_info is variadic too. -1 when it is not known. */
static inline int reeve_mhd_descriptor(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static inline const struct sockaddr *reeve_mhd_peer(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info ? info->client_addr : NULL;
}

/* The size of the head from the method to the end of the empty line; it is contiguous in memory. 0 if not known. */
static inline size_t reeve_mhd_head_size(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info ? info->header_size : 0;
}

/* Whether a NUL byte in a header truncates the value. From 1.0 on the library refuses such requests, and folded lines. */
static inline int reeve_mhd_accepts_nul(void) { return MHD_VERSION < 0x01000000; }
