#include "proto/rpc/listen.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

const char *rmj_rpc_unix_path(const char *address)
{
    return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

enum rmj_status rmj_rpc_address_check(const char *address, int port_zero_allowed, struct rmj_error *err)
{
    const char *path = rmj_rpc_unix_path(address);
    if (path != NULL) {
        size_t size_max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
        if (*path == '\0' || strlen(path) > size_max) {
            return rmj_fail(err, RMJ_INVALID, "address %.300s: a socket's path has 1 to %zu bytes, this one has %zu",
                            address, size_max, strlen(path));
        }
        return RMJ_OK;
    }
    const char *colon = strrchr(address, ':');
    char *end = NULL;
    long port = colon == NULL || colon == address ? -1 : strtol(colon + 1, &end, 10);
    if (port < (port_zero_allowed ? 0 : 1) || port > 65535 || end == colon + 1 || *end != '\0') {
        return rmj_fail(err, RMJ_INVALID,
                        "address %.300s is neither unix:/path nor host:port with a port from %d to 65535", address,
                        port_zero_allowed ? 0 : 1);
    }
    return RMJ_OK;
}

// Two servers that start together must not both find no socket: an abstract name, which the kernel forgets with its
// owner, is the claim on the path.
static enum rmj_status claim_path(const char *path, int *lock, struct rmj_error *err)
{
    char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    const char *name = path;
    if (slash != NULL) {
        name = path + (slash - directory) + 1;
        slash[slash == directory ? 1 : 0] = '\0';
    }
    struct stat info;
    if (stat(slash == NULL ? "." : directory, &info) != 0) {
        return rmj_fail_errno(err, errno == ENOENT || errno == ENOTDIR ? RMJ_INVALID : RMJ_IO,
                              "unix:%s: the directory of the socket", path);
    }
    uint64_t hash = 14695981039346656037u; // FNV-1a of the file's name
    for (const char *c = name; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    }
    struct sockaddr_un claim = {.sun_family = AF_UNIX};
    int size = snprintf(claim.sun_path + 1, sizeof claim.sun_path - 1, "rmjob:%jx:%jx:%jx", (uintmax_t)info.st_dev,
                        (uintmax_t)info.st_ino, (uintmax_t)hash);
    *lock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*lock < 0) {
        return rmj_fail_errno(err, RMJ_IO, "socket");
    }
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
    if (bind(*lock, (struct sockaddr *)&claim, length) != 0) {
        int taken = errno == EADDRINUSE;
        (void)rmj_fail_errno(err, RMJ_IO, "unix:%s: bind", path);
        close(*lock);
        *lock = -1;
        return taken ? rmj_fail(err, RMJ_CONFLICT,
                                "unix:%s is in use by another server; stop it or choose another address", path)
                     : RMJ_IO;
    }
    return RMJ_OK;
}

static enum rmj_status remove_stale(const char *path, struct rmj_error *err)
{
    struct stat info;
    if (lstat(path, &info) != 0) {
        return errno == ENOENT ? RMJ_OK : rmj_fail_errno(err, RMJ_IO, "unix:%s", path);
    }
    if (!S_ISSOCK(info.st_mode)) {
        return rmj_fail(err, RMJ_INVALID, "unix:%s exists and is not a socket; choose another address", path);
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) {
        return rmj_fail_errno(err, RMJ_IO, "socket");
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int failed = connect(probe, (struct sockaddr *)&address, sizeof address) != 0 ? errno : 0;
    struct ucred peer = {0};
    socklen_t peer_size = sizeof peer;
    if (failed == 0) {
        (void)getsockopt(probe, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size);
    }
    close(probe);
    if (failed == 0 || failed == EAGAIN) {
        char who[40] = "another server";
        if (peer.pid > 0) {
            snprintf(who, sizeof who, "process %d", (int)peer.pid);
        }
        return rmj_fail(err, RMJ_CONFLICT, "unix:%s is in use by %s; stop it or choose another address", path, who);
    }
    if (failed != ECONNREFUSED) {
        errno = failed;
        return rmj_fail_errno(err, failed == EACCES ? RMJ_DENIED : RMJ_IO, "unix:%s", path);
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return rmj_fail_errno(err, RMJ_IO, "unix:%s: remove the socket of a dead server", path);
    }
    return RMJ_OK;
}

// Socket number of whoever listens on the port, from the kernel's table; 0 when it is not seen.
static unsigned long listening_inode(const char *table, unsigned port)
{
    FILE *file = fopen(table, "re");
    char line[512];
    unsigned long inode = 0;
    while (file != NULL && inode == 0 && fgets(line, sizeof line, file) != NULL) {
        unsigned local, state;
        unsigned long seen;
        // sl local:port remote:port state queues timers retransmits uid timeout inode
        if (sscanf(line, " %*[^:]: %*[^:]:%x %*s %x %*s %*s %*s %*s %*s %lu", &local, &state, &seen) == 3 &&
            local == port && state == 10 /* TCP_LISTEN */) {
            inode = seen;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return inode;
}

static int holds_socket(const char *pid, const char *wanted)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *directory = opendir(path);
    int found = 0;
    for (struct dirent *entry; directory != NULL && !found && (entry = readdir(directory)) != NULL;) {
        char target[64];
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        target[size < 0 ? 0 : size] = '\0';
        found = strcmp(target, wanted) == 0;
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return found;
}

// "process 123" when this user may see it.
static void name_owner(char *who, size_t size, unsigned port)
{
    snprintf(who, size, "another server");
    unsigned long inode = listening_inode("/proc/net/tcp", port);
    inode = inode != 0 ? inode : listening_inode("/proc/net/tcp6", port);
    DIR *processes = inode == 0 ? NULL : opendir("/proc");
    char wanted[40];
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    for (struct dirent *entry; processes != NULL && (entry = readdir(processes)) != NULL;) {
        if (isdigit((unsigned char)entry->d_name[0]) && holds_socket(entry->d_name, wanted)) {
            snprintf(who, size, "process %.20s", entry->d_name);
            break;
        }
    }
    if (processes != NULL) {
        closedir(processes);
    }
}

static enum rmj_status try_bind(const char *address, const struct addrinfo *at, struct rmj_error *err)
{
    int probe = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0) {
        return rmj_fail_errno(err, RMJ_IO, "%s: socket", address);
    }
    int on = 1;
    (void)setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int failed = bind(probe, at->ai_addr, at->ai_addrlen) != 0 ? errno : 0;
    if (failed == 0 && listen(probe, 1) != 0) {
        failed = errno;
    }
    close(probe);
    char who[40];
    switch (failed) {
    case 0:
        return RMJ_OK;
    case EADDRINUSE:
        name_owner(who, sizeof who, (unsigned)strtoul(strrchr(address, ':') + 1, NULL, 10));
        return rmj_fail(err, RMJ_CONFLICT, "%s is in use by %s; stop it or choose another address", address, who);
    case EACCES:
        errno = failed;
        return rmj_fail_errno(err, RMJ_DENIED, "%s", address);
    case EADDRNOTAVAIL:
        return rmj_fail(err, RMJ_INVALID, "%s is not an address of this machine", address);
    default:
        errno = failed;
        return rmj_fail_errno(err, RMJ_IO, "%s", address);
    }
}

static enum rmj_status probe_tcp(const char *address, struct rmj_error *err)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t size = (size_t)(colon - address);
    int bracketed = size >= 2 && address[0] == '[' && colon[-1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(size - (bracketed ? 2 : 0)), address + bracketed);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int failed = getaddrinfo(host, colon + 1, &hints, &list);
    if (failed != 0) {
        return rmj_fail(err, RMJ_INVALID, "%s: %s", address, gai_strerror(failed));
    }
    enum rmj_status status = try_bind(address, list, err);
    freeaddrinfo(list);
    return status;
}

enum rmj_status rmj_rpc_listen_claim(const char *address, int *lock, struct rmj_error *err)
{
    *lock = -1;
    const char *path = rmj_rpc_unix_path(address);
    if (path == NULL) {
        return probe_tcp(address, err);
    }
    // The living socket is looked at first: its owner's process number makes the better message.
    RMJ_TRY(remove_stale(path, err));
    RMJ_TRY(claim_path(path, lock, err));
    enum rmj_status status = remove_stale(path, err);
    if (status != RMJ_OK) {
        close(*lock);
        *lock = -1;
    }
    return status;
}
