/* Hide from this process every instruction set after AVX2.

   Linux lets a thread raise SIGSEGV at each CPUID instruction (arch_prctl ARCH_SET_CPUID, on
   processors with the flag cpuid_fault). The handler runs the instruction, and clears the bits of
   AVX-512, VNNI, AMX and the like in its answer. Threads that start later inherit this. */

#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

static long allow_cpuid(int allowed) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed); }

static void answer(int signal_number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) { /* not CPUID: a real fault */
        signal(signal_number, SIG_DFL);
        return;
    }
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX];
    unsigned a = leaf, b, c = subleaf, d;
    allow_cpuid(1);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    allow_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31)); /* AVX-512 */
        c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));             /* VBMI, VNNI, ... */
        d &= ~(BIT(22) | BIT(23) | BIT(24) | BIT(25));                     /* AMX, FP16 */
    }
    if (leaf == 7 && subleaf == 1) {
        a &= ~(BIT(4) | BIT(5)); /* AVX-VNNI, AVX512-BF16 */
        d &= ~(BIT(4) | BIT(5)); /* AVX-VNNI-INT8, AVX-NE-CONVERT */
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

/* Return 0, or another number if the processor cannot do it. */
int avx2_only(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGSEGV, &action, NULL))
        return 1;
    return allow_cpuid(0) ? 1 : 0;
}
