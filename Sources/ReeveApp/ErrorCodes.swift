import AdminHTTP
import Auditing
import Backups
import Catalog
import Kernel
import Ledger
import Migrations
import Postgres
import Processes
import Reporting
import Scheduling
import Storage

/// The codes of all errors of the program.
enum ErrorCodes {
    /// All types of errors that have a report of their own, in the order of the reference.
    static let types: [any ReportedError.Type] = [
        UsageError.self, ConfigurationError.self, ConfirmationNeeded.self, PostgresError.self,
        EmbeddedClusterError.self, LedgerError.self, AuditError.self, MigrationError.self, SnapshotError.self,
        ValidationError.self, SchedulingError.self, BackupError.self, StorageError.self, PipelineError.self,
        ServerError.self,
    ]

    static let all = types.flatMap { $0.codes } + ErrorReport.commonCodes
}

/// The reference of exit codes and error codes, made from their tables: `docs/errors.md`.
enum ErrorReference {
    static var markdown: String {
        """
        # Exit codes and errors

        A command that fails prints what happened on standard error, and a hint where there is a remedy:

        ```
        error: …
        hint: …
        ```

        With `--json` it prints one object on standard output:
        `{"error":{"code":"…","message":"…","hint":"…"}}`. Codes and exit codes are stable, and scripts may depend on
        them; messages and hints may change.

        ## Exit codes

        \(exitCodes)
        The service (`reeve serve`) ends with 0 after the first signal.

        ## Error codes

        \(errorCodes)
        """
    }

    private static var exitCodes: String {
        var text = "| exit | name | meaning |\n|---|---|---|\n"
        for code in ExitCode.allCases { text += "| \(code.rawValue) | \(code.name) | \(code.meaning) |\n" }
        return text + "| 128 + N | interrupted | Signal N ended the command: 129 SIGHUP, 130 SIGINT, 143 SIGTERM. |\n"
    }

    private static var errorCodes: String {
        var text = "| code | exit | meaning |\n|---|---|---|\n"
        for code in ErrorCodes.all {
            let name = code.name == ErrorCode.sqlState ? code.name : "`\(code.name)`"
            let exits = code.exitCodes.map { "\($0.rawValue)" }.joined(separator: ", ")
            text += "| \(name) | \(exits) | \(code.meaning) |\n"
        }
        return text + "| `interrupted` | 128 + N | A signal ended the command; the message says what was done. |\n"
    }
}
