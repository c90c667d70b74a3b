/* Turn a wildcard bind() into a bind to the pod's own address, so that pods on one machine keep their usual ports.
 *
 * Loaded with LD_PRELOAD; the address is IPv4 text in PYBRIX_POD_IP. Port 0 is left alone: nobody collides there, and
 * clients bind so before they connect to other machines.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*bind_function)(int, const struct sockaddr *, socklen_t);

static int bind_next(int fd, const struct sockaddr *address, socklen_t length)
{
    static bind_function next;
    bind_function found = __atomic_load_n(&next, __ATOMIC_RELAXED);
    if (found == NULL) {
        found = (bind_function)dlsym(RTLD_NEXT, "bind");
        if (found == NULL) {
            errno = ENOSYS;
            return -1;
        }
        __atomic_store_n(&next, found, __ATOMIC_RELAXED);
    }
    return found(fd, address, length);
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    const char *text = getenv("PYBRIX_POD_IP");
    struct in_addr pod;
    if (address == NULL || text == NULL || inet_pton(AF_INET, text, &pod) != 1)
        return bind_next(fd, address, length);

    if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in changed;
        memcpy(&changed, address, sizeof changed);
        if (changed.sin_addr.s_addr == htonl(INADDR_ANY) && changed.sin_port != 0) {
            changed.sin_addr = pod;
            return bind_next(fd, (const struct sockaddr *)&changed, sizeof changed);
        }
    }
    if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 changed;
        memcpy(&changed, address, sizeof changed);
        if (IN6_IS_ADDR_UNSPECIFIED(&changed.sin6_addr) && changed.sin6_port != 0) {
            int v6_only = 0;
            socklen_t size = sizeof v6_only;
            getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, &size);
            memset(&changed.sin6_addr, 0, sizeof changed.sin6_addr);
            if (v6_only) {
                /* The pod has no IPv6 address, and its IPv4 socket has the port: listen where nobody asks, as on an
                 * IPv4-only cluster. */
                changed.sin6_addr = in6addr_loopback;
                changed.sin6_port = 0;
            } else {
                /* Dual stack: the pod's address, V4-mapped. */
                changed.sin6_addr.s6_addr[10] = 0xff;
                changed.sin6_addr.s6_addr[11] = 0xff;
                memcpy(&changed.sin6_addr.s6_addr[12], &pod, sizeof pod);
            }
            return bind_next(fd, (const struct sockaddr *)&changed, sizeof changed);
        }
    }
    return bind_next(fd, address, length);
}
