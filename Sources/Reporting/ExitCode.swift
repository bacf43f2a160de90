/// The exit status of the program. Scripts depend on the numbers.
public enum ExitCode: Int32, Sendable, CaseIterable {
    case done = 0
    case failed = 1
    case usage = 2
    case finding = 3
    case notPermitted = 4
    case locked = 5
    case confirmationNeeded = 6
    /// The number of `EX_TEMPFAIL` in sysexits.h.
    case temporary = 75

    /// The name in help and documentation.
    public var name: String {
        switch self {
        case .done: "done"
        case .failed: "failed"
        case .usage: "usage"
        case .finding: "finding"
        case .notPermitted: "not permitted"
        case .locked: "locked"
        case .confirmationNeeded: "confirmation needed"
        case .temporary: "try again"
        }
    }

    /// A sentence for the reference.
    public var meaning: String {
        switch self {
        case .done: "The command succeeded and found no problems."
        case .failed: "The command failed."
        case .usage: "The command line, the configuration or a named file is wrong."
        case .finding:
            "The command succeeded and found a problem, for example drift, pending migrations or a failed check."
        case .notPermitted:
            "The role lacks a right that the command requires, or a schema `reeve` contains objects that are not "
                + "Reeve's."
        case .locked: "Another process held a lock for longer than `--lock-wait`, or is doing the same work."
        case .confirmationNeeded: "The command would destroy data and was not confirmed. Nothing was done."
        case .temporary: "A temporary failure, such as a lost connection; the same command may succeed later."
        }
    }

    /// Returns the most severe of several exit codes: permanent failures before temporary failures, and these before a
    /// finding; `done` if there are none.
    public static func worst(of codes: [ExitCode]) -> ExitCode {
        let order: [ExitCode] = [
            .failed, .usage, .notPermitted, .confirmationNeeded, .locked, .temporary, .finding, .done,
        ]
        return order.first(where: codes.contains) ?? .done
    }
}
