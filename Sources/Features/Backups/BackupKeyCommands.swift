import Backups
import Foundation
import Kernel
import Processes
import Reporting

/// The command `reeve backup key`.
enum BackupKeyCommands {
    static let all = [key]

    static let key = CommandSpec(
        noun: "backup", verb: "key",
        summary: "make a pair of keys, rotate to new ones, or rehearse the loss of one",
        discussion:
            "'new FILE' writes an identity to FILE, which must not exist, and prints its recipient, which goes into "
            + "backup.recipients. Keep the identity away from the machine that backs up, in two places: who loses it loses "
            + "the backups, and who has it can read them. 'rewrap' encrypts the backups that are there for the recipients "
            + "that are configured now; until then they stay readable with the old identity alone. A backup whose manifest "
            + "cannot be read stays as it is, and so do the old objects: exit 1. 'drill FILE…' tries "
            + "each identity on each backup and tells which would be lost with it; exit 3 when one opens with none, or "
            + "with a single one.",
        arguments: [
            ArgumentSpec(name: "new|rewrap|drill", help: "what to do"),
            ArgumentSpec(name: "FILE", help: "identity files", isRequired: false),
            ArgumentSpec(name: "FILE2", help: "a second one", isRequired: false),
            ArgumentSpec(name: "FILE3", help: "a third one", isRequired: false),
        ], options: [BackupScope.identity, BackupScope.repository],
        whenInterrupted: "each backup can be read as before, or as it is configured now"
    ) { invocation in
        let words = invocation.arguments.positional
        switch (words[0], words.count) {
        case ("new", 2): return try await make(words[1], invocation)
        case ("rewrap", 1): return try await rewrap(invocation)
        case ("drill", 2...): return try await drill(Array(words.dropFirst()), invocation)
        default:
            throw UsageError(
                "unknown command 'backup key \(words.joined(separator: " "))'",
                hint: "write 'reeve backup key new FILE', 'rewrap' or 'drill FILE…'")
        }
    }

    private static func make(_ name: String, _ invocation: Invocation) async throws -> ExitCode {
        let path = URL(fileURLWithPath: name).path
        let recipient: String
        do {
            recipient = try await BackupKey.make(at: path)
        } catch let error as PipelineError {
            throw UsageError(error.errorOutput.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        invocation.console.result(["recipient": .string(recipient), "identity": .string(path)], text: recipient)
        invocation.console.note(
            "the identity is in \(path); keep two copies away from this machine, for without it no backup opens")
        return .done
    }

    private static func rewrap(_ invocation: Invocation) async throws -> ExitCode {
        try await BackupScope.forEach(invocation) { work in
            let (parts, damaged) = try await work.rewrap(identity: invocation.option("identity")) {
                invocation.console.progress("encrypted anew: \($0)")
            }
            for error in damaged {
                invocation.console.note("error: \(error); the parts that it may name stay as they are")
            }
            return DatabaseScope.Report(
                ["parts": .int(parts), "damaged": .array(damaged.map { .string($0.description) })],
                "\(parts) parts are encrypted for the recipients of today", damaged.isEmpty ? .done : .failed)
        }
    }

    private static func drill(_ identities: [String], _ invocation: Invocation) async throws -> ExitCode {
        let identities = identities.map { URL(fileURLWithPath: $0).path }
        return try await BackupScope.forEach(invocation) { work in
            var status = ExitCode.done
            var table = TextTable("BACKUP", "OPENS WITH", "IF ONE IS LOST")
            var values: [JSONValue] = []
            for repository in try BackupScope.repositories(invocation, work) {
                let manifests = try await repository.manifests(of: work.open.name) {
                    status = .finding
                    invocation.console.note("error: \($0)")
                }
                for trial in try await repository.trials(manifests, identities: identities) {
                    let opening = trial.opening ?? ["anything: it is not encrypted"]
                    let isSafe = trial.opening.map { $0.count > 1 } ?? true
                    if !isSafe { status = .finding }
                    table.add(
                        trial.backup, opening.isEmpty ? "none of these" : opening.joined(separator: ", "),
                        isSafe ? "another opens it" : opening.isEmpty ? "it cannot be opened now" : "it is lost")
                    values.append([
                        "backup": .string(trial.backup), "identities": .array(opening.map { .string($0) }),
                        "survives_a_loss": .bool(isSafe),
                    ])
                }
            }
            return DatabaseScope.Report(
                ["backups": .array(values)], values.isEmpty ? BackupText.none(isWhole: status == .done) : table.text,
                status)
        }
    }
}
