import AdminHTTP
import Auditing
import Backups
import Catalog
import CommandLine
import Foundation
import Kernel
import Ledger
import Migrations
import Postgres
import Processes
import Scheduling
import Storage
import Telemetry

/// The program `reeve`: reads its arguments, runs one command and tells how it ended.
public enum ReeveProgram {
    /// - Returns: the exit status.
    public static func main(arguments: [String], environment: [String: String]) async -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        let console = Console(isJSON: arguments.contains("--json"), environment: environment)
        do {
            let parser = CommandLineParser(commands: FeatureList.reeve.commands)
            let help = HelpText(commands: FeatureList.reeve.commands)
            switch try parser.parse(arguments) {
            case .version:
                console.result(["version": .string(ProgramVersion.current)], text: "reeve \(ProgramVersion.current)")
            case .help(nil, _): console.result(.string(help.overview), text: help.overview)
            case .help(_, let spec?): console.result(.string(help.command(spec)), text: help.command(spec))
            case .help(let noun?, nil): console.result(.string(help.family(noun)), text: help.family(noun))
            case .run(let spec, let parsed):
                return try await run(spec, parsed, console, environment)
            }
            return ExitCode.done.rawValue
        } catch {
            return report(error, console)
        }
    }

    /// Runs a command in a task of its own, which a signal cancels.
    private static func run(
        _ spec: CommandSpec, _ arguments: ParsedArguments, _ console: Console, _ environment: [String: String]
    ) async throws -> Int32 {
        let interruption = Interruption(
            console: console, standing: spec.whenInterrupted, isService: spec.isService)
        let invocation = Invocation(
            arguments: arguments, console: console, environment: environment, interruption: interruption,
            features: .reeve)
        let work = Task { try await spec.run(invocation) }
        try interruption.watch { work.cancel() }
        do {
            return try await work.value.rawValue
        } catch {
            guard let signal = interruption.signal, !spec.isService else {
                if interruption.signal != nil, error is CancellationError { return ExitCode.done.rawValue }
                return report(error, console, patience: spec.isService ? .seconds(2) : nil)
            }
            console.interrupted(interruption.message(error is CancellationError ? nil : Failure(error).message))
            return 128 + signal
        }
    }

    /// - Parameter patience: how long to wait for whoever reads; nil: as long as it takes.
    private static func report(_ error: any Error, _ console: Console, patience: Duration? = nil) -> Int32 {
        let failure = Failure(error)
        let said = DispatchSemaphore(value: 0)
        let thread = Thread {
            console.error(failure.message, code: failure.code, hint: failure.hint)
            said.signal()
        }
        thread.start()
        _ = said.wait(timeout: patience.map { .now() + $0.inSeconds } ?? .distantFuture)
        return failure.exit.rawValue
    }
}

/// An error as the program reports it.
struct Failure {
    let message: String
    /// A word that scripts may lean on.
    let code: String
    let hint: String?
    let exit: ExitCode
}

extension Failure {
    init(_ error: any Error) {
        switch error {
        case let error as UsageError:
            self.init(message: error.description, code: "usage", hint: error.hint, exit: .usage)
        case let error as ConfigurationError:
            self.init(message: error.description, code: "configuration", hint: error.hint, exit: .usage)
        case let error as ConfirmationNeeded:
            self.init(
                message: error.what, code: "confirmation_needed", hint: "confirm with --confirm=\(error.name)",
                exit: .confirmationNeeded)
        case let error as MigrationError:
            self.init(message: error.report, code: "migration", hint: error.hint, exit: Self.exit(of: error))
        case let error as BackupError:
            self.init(message: error.description, code: "backup", hint: error.hint, exit: Self.exit(of: error))
        case let error as StorageError:
            self.init(message: error.description, code: "storage", hint: error.hint, exit: .failed)
        case let error as PipelineError:
            self.init(message: error.description, code: "program", hint: nil, exit: .failed)
        case let error as ValidationError:
            self.init(message: error.description, code: "validation", hint: error.hint, exit: .failed)
        case let error as SnapshotError:
            self.init(message: error.description, code: "snapshot", hint: error.hint, exit: .usage)
        case let error as LedgerError:
            self.init(message: error.description, code: "ledger", hint: error.hint, exit: Self.exit(of: error))
        case let error as AuditError:
            self.init(message: error.description, code: "audit", hint: error.hint, exit: Self.exit(of: error))
        case let error as EmbeddedClusterError:
            self.init(message: error.description, code: "embedded_cluster", hint: error.hint, exit: .failed)
        case let error as SchedulingError:
            self.init(message: error.description, code: "task", hint: error.hint, exit: Self.exit(of: error))
        case let error as PostgresError:
            let isAway = error.kind == .cannotConnect
            self.init(
                message: error.report, code: error.sqlState ?? "postgres",
                hint: error.hint ?? (isAway ? "'reeve config show' tells where the address comes from" : nil),
                exit: Self.exit(of: error))
        case let error as ServerError:
            self.init(
                message: error.description, code: "listen", hint: error.hint, exit: error.isRefusal ? .usage : .failed)
        case is CancellationError: self.init(message: "stopped", code: "cancelled", hint: nil, exit: .failed)
        default: self.init(message: "\(error)", code: "failed", hint: nil, exit: .failed)
        }
    }

    private static func exit(of error: MigrationError) -> ExitCode {
        switch error {
        case .locked: .locked
        case .openSchema: .notPermitted
        case .failed(_, _, let cause, _, _): Failure(cause).exit
        case .lostAfter: .temporary
        default: .failed
        }
    }

    private static func exit(of error: BackupError) -> ExitCode {
        switch error {
        case .locked: .locked
        case .notRestored: .temporary
        case .hiddenRows, .foreign: .notPermitted
        case .noRecipients, .unknown, .needsIdentity: .usage
        default: .failed
        }
    }

    private static func exit(of error: LedgerError) -> ExitCode {
        switch error {
        case .newer: .failed
        case .busy, .recording: .locked
        case .foreign: .notPermitted
        }
    }

    private static func exit(of error: AuditError) -> ExitCode {
        switch error {
        case .contradicted: .finding
        case .file, .notAKey, .noLedger: .usage
        case .notWritten, .late: .failed
        }
    }

    private static func exit(of error: SchedulingError) -> ExitCode {
        if case .alreadyRunning = error { .locked } else { .usage }
    }

    private static func exit(of error: PostgresError) -> ExitCode {
        if error.kind == .configuration { return .usage }
        if error.sqlState == "42501" { return .notPermitted }
        return error.isTransient ? .temporary : .failed
    }
}
