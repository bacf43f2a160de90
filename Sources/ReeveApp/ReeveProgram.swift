import CommandLine
import Foundation
import Kernel
import Ledger
import Processes
import Reporting
import Telemetry

/// The program `reeve`: parses its arguments, runs one command and reports the result.
public enum ReeveProgram {
    /// - Returns: the exit status.
    public static func main(arguments: [String], environment: [String: String]) async -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        let console = Console(isJSON: arguments.contains("--json"), environment: environment)
        if arguments.first == CompletionScript.command {
            let answer = CommandLineCommands.complete(
                Array(arguments.dropFirst()), environment: environment, features: .reeve)
            Console.write(answer, to: STDOUT_FILENO)
            return ExitCode.done.rawValue
        }
        do {
            let parser = CommandLineParser(commands: FeatureList.reeve.commands)
            let help = HelpText(commands: FeatureList.reeve.commands)
            switch try parser.parse(arguments) {
            case .version: CommandLineCommands.show(on: console)
            case .help(let noun, let spec):
                let page = try spec.map(help.command) ?? help.page(noun.map { [$0] } ?? [])
                console.result(["help": .string(page)], text: page)
            case .run(let spec, let parsed):
                return try await run(spec, parsed, console, environment)
            }
            return ExitCode.done.rawValue
        } catch {
            return report(error, console)
        }
    }

    /// Runs a command in a separate task, which a signal cancels.
    private static func run(
        _ spec: CommandSpec, _ arguments: ParsedArguments, _ console: Console, _ environment: [String: String]
    ) async throws -> Int32 {
        let interruption = Interruption(
            console: console, standing: spec.whenInterrupted, isService: spec.isService)
        let invocation = Invocation(
            arguments: arguments, console: console, environment: environment, interruption: interruption,
            features: .reeve)
        let work = LedgerPart.$all.withValue(FeatureList.reeve.ledger) { Task { try await spec.run(invocation) } }
        try interruption.watch { work.cancel() }
        do {
            return try await work.value.rawValue
        } catch {
            guard let signal = interruption.signal, !spec.isService else {
                if interruption.signal != nil, error is CancellationError { return ExitCode.done.rawValue }
                return report(error, console, patience: spec.isService ? .seconds(2) : nil)
            }
            console.interrupted(interruption.message(error is CancellationError ? nil : ErrorReport(error).message))
            return 128 + signal
        }
    }

    /// Prints the report of an error, and returns its exit status.
    ///
    /// - Parameter patience: how long to wait for the reader of the output; nil for no limit.
    private static func report(_ error: any Error, _ console: Console, patience: Duration? = nil) -> Int32 {
        let report = ErrorReport(error)
        let said = DispatchSemaphore(value: 0)
        let thread = Thread {
            console.error(report.message, code: report.code, hint: report.hint)
            said.signal()
        }
        thread.start()
        _ = said.wait(timeout: patience.map { .now() + $0.inSeconds } ?? .distantFuture)
        return report.exitCode.rawValue
    }
}
