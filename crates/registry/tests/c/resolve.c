/* Prints the addresses of a name, one a line, as any program would find them: whatever libc this is linked to resolves it. */
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    if (argc != 2)
        return 64;
    int error = getaddrinfo(argv[1], NULL, &hints, &found);
    if (error) {
        printf("%s\n", gai_strerror(error));
        return 1;
    }
    for (struct addrinfo *one = found; one; one = one->ai_next) {
        char host[64];
        if (!getnameinfo(one->ai_addr, one->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST))
            printf("%s\n", host);
    }
    freeaddrinfo(found);
    return 0;
}
