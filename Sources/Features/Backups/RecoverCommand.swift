import Auditing
import Backups
import Foundation
import Kernel
import Ledger
import Postgres
import Reporting

/// The command `reeve recover`.
enum RecoverCommand {
    static let spec = CommandSpec(
        noun: "recover", verb: nil,
        summary: "restore all configured databases from their backups, with roles and ledgers",
        discussion:
            "This command is for a machine that has only this program, its configuration, a repository and an "
            + "identity. Each configured database is restored from its newest backup, with its roles. A database that "
            + "does not exist is created. A database that is not empty is left unchanged, unless --confirm names it: "
            + "then the database is renamed, and its backup is restored under the original name.",
        options: [
            .option("backup", "ID", "restore this backup of the database that --database names, instead of the newest"),
            BackupScope.identity,
            BackupScope.repository, BackupScope.trust, .dryRun,
            .option("confirm", "NAME", "the database that may be renamed and replaced"),
        ],
        whenInterrupted: "a database that was being restored may contain a part of its backup; if so, it is closed "
            + "(CONNECTION LIMIT 0): drop it, and recover again"
    ) { invocation in
        let estate = try invocation.estate()
        var values: [JSONValue] = []
        var lines: [String] = []
        for one in try estate.selected(invocation.option("database")) {
            let id = invocation.option("backup") ?? "latest"
            var repositories = try BackupSettings.repositories(estate.configuration)
            if let place = invocation.option("repository") {
                repositories = [try BackupWork.repository(place, of: repositories)]
            }
            let (repository, manifest) = try await BackupWork.find(id, of: one.name, in: repositories) {
                invocation.console.note($0)
            }
            var order = BackupWork.RestoreOrder()
            let target: ConnectionSettings
            let open: OpenDatabase
            switch one.source {
            case .connection(let given):
                target = one.direct ?? given
                if !invocation.isDryRun {
                    order.isMade = try await Replacement(of: target, like: manifest).makeIfMissing()
                }
                open = try await estate.open(one)
            case .embedded:
                open = try await estate.open(one)
                target = open.database.direct
            }
            let work = try BackupWork(open: open, configuration: estate.configuration, logger: estate.logger)
            values.append([
                "database": .string(one.name), "backup": .string(manifest.id), "as_of": .string(manifest.startedAt),
            ])
            if invocation.isDryRun {
                lines.append("\(one.name): would be restored from \(manifest.id), as of \(manifest.startedAt)")
                continue
            }
            let (name, objects) = try await TargetContent.read(target)
            guard objects == 0 || invocation.option("confirm") == name else {
                throw ConfirmationNeeded(what: "the database '\(name)' is not empty", name: name)
            }
            order.identity = invocation.option("identity")
            order.trustedRoles = invocation.options("trust")
            order.makesRoles = true
            order.replaces = objects > 0
            let notes = try await work.restore(
                manifest, from: repository, into: target, order, progress: BackupScope.progress(invocation.console))
            for note in notes { invocation.console.note(note) }
            try await work.withLedger {
                try BackupLedger.restored(
                    id: manifest.id, target: target.withoutPassword.uri, actor: Invocation.person, on: $0)
            }
            // The restored chain ends at the time of the backup, and anchors made after that time contradict it. The
            // user who recovers the database thereby accepts the chain.
            do {
                try await AuditWork(open: open, configuration: estate.configuration, logger: estate.logger)
                    .anchor(accepting: "\(Invocation.person): recovered from backup \(manifest.id)")
            } catch {
                invocation.console.note("'\(one.name)': the audit chain could not be anchored: \(error)")
            }
            lines.append("\(one.name): restored from \(manifest.id), as of \(manifest.startedAt)")
            invocation.interruption.did("recovered '\(one.name)' from \(manifest.id)")
        }
        invocation.console.result(["recovered": .array(values)], text: lines.joined(separator: "\n"))
        return .done
    }
}
