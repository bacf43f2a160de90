/// How the program ends; scripts lean on the numbers.
public enum ExitCode: Int32, Sendable {
    /// Done, with no problems found.
    case done = 0
    case failed = 1
    /// The command line or the configuration is wrong.
    case usage = 2
    /// A difference or a finding: drift, pending migrations, unhealthy.
    case finding = 3
    case notPermitted = 4
    /// Another process held the lock past `--lock-wait`.
    case locked = 5
    case confirmationNeeded = 6
    /// It may work when tried again (`EX_TEMPFAIL` of sysexits.h).
    case temporary = 75
}
