/**
 * The filter of system calls for isolated sandboxes: a BPF program that refuses what no function needs and what has been used to break out.
 * Made for the architecture at hand; undefined where the numbers are not known.
 *
 * The first word of each pair is x86-64, the second aarch64; -1: there is none.
 */

const DENIED: readonly (readonly [x64: number, arm64: number])[] = [
  // Mounts and roots.
  [165, 40], [166, 39], [155, 41], [161, 51], [428, 428], [429, 429], [430, 430], [431, 431], [432, 432], [433, 433], [442, 442], // mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
  // Other namespaces.
  [308, 268], [272, 97], // setns unshare
  // Other processes.
  [101, 117], [310, 270], [311, 271], [312, 272], [438, 438], // ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd
  // The kernel itself.
  [169, 142], [175, 105], [313, 273], [176, 106], [246, 104], [320, 294], [321, 280], [298, 241], [323, 282], [103, 116], // reboot init_module finit_module delete_module kexec_load kexec_file_load bpf perf_event_open userfaultfd syslog
  [425, 425], [426, 426], [427, 427], [212, 18], [134, -1], [156, -1], [180, 42], [172, -1], [173, -1], // io_uring_setup io_uring_enter io_uring_register lookup_dcookie uselib _sysctl nfsservctl iopl ioperm
  // What belongs to the whole machine.
  [167, 224], [168, 225], [163, 89], [179, 60], [443, 443], [164, 170], [227, 112], [159, 171], [305, 266], [170, 161], [171, 162], [153, 58], // swapon swapoff acct quotactl quotactl_fd settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname vhangup
  // Keys and files by handle, which know no mount namespace.
  [250, 219], [248, 217], [249, 218], [304, 265], [303, 264], [300, 262], // keyctl add_key request_key open_by_handle_at name_to_handle_at fanotify_init
];
const CLONE: readonly [number, number] = [56, 220];
const CLONE3: readonly [number, number] = [435, 435];
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NEW_NAMESPACES = 0x7e020000;

const ARCHITECTURES = { x64: { audit: 0xc000003e, column: 0, hasX32: true }, arm64: { audit: 0xc00000b7, column: 1, hasX32: false } } as const;

// Instructions and answers of the kernel's classic BPF.
const LOAD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_GREATER_EQUAL = 0x35;
const JUMP_ANY_BIT = 0x45;
const RETURN = 0x06;
const KILL_PROCESS = 0x80000000;
const ALLOW = 0x7fff0000;
const ERRNO = 0x00050000;
const EPERM = 1;
const ENOSYS = 38;
/** Where the kernel's record holds the number of the call, the architecture, and the low half of the first argument. */
const AT_NUMBER = 0;
const AT_ARCHITECTURE = 4;
const AT_FIRST_ARGUMENT = 16;
const X32_BIT = 0x40000000;

/** The program, as `bwrap --seccomp` takes it. */
export function seccompFilter(architecture: string): Buffer | undefined {
  if (architecture !== 'x64' && architecture !== 'arm64') return undefined;
  const { audit, column, hasX32 } = ARCHITECTURES[architecture];
  const denied = DENIED.map((numbers) => numbers[column]).filter((number) => number >= 0);
  const program: [code: number, ifTrue: number, ifFalse: number, value: number][] = [
    [LOAD, 0, 0, AT_ARCHITECTURE],
    [JUMP_EQUAL, 1, 0, audit],
    [RETURN, 0, 0, KILL_PROCESS],
    [LOAD, 0, 0, AT_NUMBER],
  ];
  if (hasX32) program.push([JUMP_GREATER_EQUAL, 0, 1, X32_BIT], [RETURN, 0, 0, ERRNO | ENOSYS]);
  // Each test jumps over the others that follow and over the seven instructions behind them, to the refusal.
  denied.forEach((number, i) => program.push([JUMP_EQUAL, denied.length - 1 - i + 7, 0, number]));
  program.push(
    // Arguments of clone3 lie in memory, where no filter can look: the C library falls back to clone.
    [JUMP_EQUAL, 0, 1, CLONE3[column]],
    [RETURN, 0, 0, ERRNO | ENOSYS],
    [JUMP_EQUAL, 1, 0, CLONE[column]],
    [RETURN, 0, 0, ALLOW],
    [LOAD, 0, 0, AT_FIRST_ARGUMENT],
    [JUMP_ANY_BIT, 1, 0, NEW_NAMESPACES],
    [RETURN, 0, 0, ALLOW],
    [RETURN, 0, 0, ERRNO | EPERM],
  );
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(([code, ifTrue, ifFalse, value], i) => {
    bytes.writeUInt16LE(code, i * 8);
    bytes[i * 8 + 2] = ifTrue;
    bytes[i * 8 + 3] = ifFalse;
    bytes.writeUInt32LE(value >>> 0, i * 8 + 4);
  });
  return bytes;
}
