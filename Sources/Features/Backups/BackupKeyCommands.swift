import Auditing
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
        summary: "make a key pair, encrypt the backups for new keys, or rehearse the loss of a key",
        discussion:
            "'new FILE' writes an identity to FILE, which must not exist, and prints its recipient. Add the recipient "
            + "to backup.recipients. Keep two copies of the identity, neither of them on the machine that makes the "
            + "backups: without the identity, the backups are lost, and anyone who has it can read them. 'rewrap' "
            + "encrypts the existing backups for the recipients that are configured now; until then, only the old "
            + "identities can open them. If a manifest cannot be read, 'rewrap' leaves that backup and all old objects "
            + "unchanged, and exits with 1. 'new-signing FILE' writes a key to FILE with which manifests and proofs "
            + "are signed; name it in backup.signing_key. 'sign' signs the existing backups, if their manifests are "
            + "those that the ledger records. 'drill FILE…' tries each identity on each backup, and shows which "
            + "backups would be lost with an identity. It exits with 3 if a backup is opened by none of the "
            + "identities, or by only one.",
        arguments: [
            ArgumentSpec(name: "new|rewrap|new-signing|sign|drill", help: "what to do"),
            ArgumentSpec(name: "FILE", help: "an identity file", isRequired: false),
            ArgumentSpec(name: "FILE2", help: "a second identity file", isRequired: false),
            ArgumentSpec(name: "FILE3", help: "a third identity file", isRequired: false),
        ], options: [BackupScope.identity, BackupScope.repository],
        whenInterrupted: "each backup is encrypted either for its old recipients or for the configured ones"
    ) { invocation in
        let words = invocation.arguments.positional
        switch (words[0], words.count) {
        case ("new", 2): return try await make(words[1], invocation)
        case ("rewrap", 1): return try await rewrap(invocation)
        case ("new-signing", 2): return try makeSigning(words[1], invocation)
        case ("sign", 1): return try await sign(invocation)
        case ("drill", 2...): return try await drill(Array(words.dropFirst()), invocation)
        default:
            throw UsageError(
                "unknown command 'backup key \(words.joined(separator: " "))'",
                hint: didYouMean(
                    words[0], among: ["new", "rewrap", "new-signing", "sign", "drill"].filter { $0 != words[0] })
                    ?? "write 'reeve backup key new FILE', 'rewrap', 'new-signing FILE', 'sign' or 'drill FILE…'")
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
            "the identity is in \(path); keep two copies away from this machine: without the identity, no backup can "
                + "be opened")
        return .done
    }

    private static func rewrap(_ invocation: Invocation) async throws -> ExitCode {
        try await BackupScope.forEach(invocation) { work in
            let (parts, damaged) = try await work.rewrap(identity: try BackupScope.identity(invocation)) {
                invocation.console.progress("encrypted again: \($0)")
            }
            for error in damaged {
                invocation.console.note("error: \(error); the parts that this manifest may list are left unchanged")
            }
            return DatabaseScope.Report(
                ["parts": .int(parts), "damaged": .array(damaged.map { .string($0.description) })],
                "encrypted \(counted(parts, "part")) for the configured recipients", damaged.isEmpty ? .done : .failed)
        }
    }

    private static func makeSigning(_ name: String, _ invocation: Invocation) throws -> ExitCode {
        let path = URL(fileURLWithPath: name).path
        guard !FileManager.default.fileExists(atPath: path) else {
            throw UsageError("\(path) exists already", hint: "name a new file; a key is never replaced")
        }
        let key = try SigningKeyFile(path: path).readOrMake()
        invocation.console.result(["key": .string(key.id), "file": .string(path)], text: path)
        invocation.console.note(
            "set backup.signing_key to this file on every machine that makes, tests or restores the backups; whoever "
                + "has the file can sign")
        return .done
    }

    private static func sign(_ invocation: Invocation) async throws -> ExitCode {
        try await BackupScope.forEach(invocation) { work in
            let (signed, refused) = try await work.sign()
            for id in refused {
                invocation.console.note(
                    "backup \(id) is not signed: its manifest is not one that its maker has recorded in the ledger")
            }
            return DatabaseScope.Report(
                ["signed": .array(signed.map { .string($0) }), "refused": .array(refused.map { .string($0) })],
                "signed \(counted(signed.count, "backup"))", refused.isEmpty ? .done : .finding)
        }
    }

    private static func drill(_ identities: [String], _ invocation: Invocation) async throws -> ExitCode {
        let identities = identities.map { URL(fileURLWithPath: $0).path }
        return try await BackupScope.forEach(invocation) { work in
            var status = ExitCode.done
            var table = TextTable("BACKUP", "OPENED BY", "IF AN IDENTITY IS LOST")
            var values: [JSONValue] = []
            for repository in try BackupScope.repositories(invocation, work) {
                let manifests = try await repository.manifests(of: work.open.name) {
                    status = .finding
                    invocation.console.note("error: \($0)")
                }
                for trial in try await repository.trials(manifests, identities: identities) {
                    let opening = trial.opening ?? ["any: it is not encrypted"]
                    let isSafe = trial.opening.map { $0.count > 1 } ?? true
                    if !isSafe { status = .finding }
                    table.add(
                        trial.backup, opening.isEmpty ? "none of these" : opening.joined(separator: ", "),
                        isSafe ? "can still be opened" : opening.isEmpty ? "cannot be opened now" : "is lost")
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
