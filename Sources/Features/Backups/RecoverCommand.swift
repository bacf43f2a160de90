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
            + "then the database is renamed, and its backup is restored under the original name. If the server refuses "
            + "an index or another object that follows the rows, the command goes on without it, lists it, and exits "
            + "with 3.",
        options: [
            .option("backup", "ID", "restore this backup of the database that --database names, instead of the newest"),
            BackupScope.identity,
            BackupScope.repository, BackupScope.trust, BackupScope.tablespace, .dryRun,
            .option("confirm", "NAME", "the database that may be renamed and replaced"),
        ] + BackupScope.allowances,
        whenInterrupted: "a database that was being restored may contain a part of its backup; if so, it is closed "
            + "(CONNECTION LIMIT 0): drop it, and recover again"
    ) { invocation in
        let estate = try invocation.estate()
        var values: [JSONValue] = []
        var lines: [String] = []
        var missing: [MissingEntry] = []
        for one in try estate.selected(invocation.option("database")) {
            let id = invocation.option("backup") ?? "latest"
            var repositories = try BackupSettings.repositories(estate.configuration)
            if let place = invocation.option("repository") {
                repositories = [try BackupWork.repository(place, of: repositories)]
            }
            let found = try await search(one, repositories, invocation).find(id)
            let (repository, manifest) = (found.repository, found.manifest)
            var order = BackupWork.RestoreOrder()
            order.tablespaces = try BackupScope.tablespaces(invocation)
            let target: ConnectionSettings
            let open: OpenDatabase
            switch one.source {
            case .connection(let given):
                target = try named(one.direct ?? given, of: one.name, manifest, configuration: estate.configuration)
                if !invocation.isDryRun {
                    order.isMade = try await Replacement(of: target, like: manifest, tablespaces: order.tablespaces)
                        .makeIfMissing()
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
                lines.append(
                    "\(one.name): would be restored from \(manifest.id), as of "
                        + "\(manifest.startedAt)\(places(target, manifest))"
                )
                continue
            }
            let (name, objects) = try await TargetContent.read(target)
            guard objects == 0 || invocation.option("confirm") == name else {
                throw ConfirmationNeeded(what: "the database '\(name)' is not empty", name: name)
            }
            order.identity = try BackupScope.identity(invocation)
            order.trustedRoles = invocation.options("trust")
            order.makesRoles = true
            order.replaces = objects > 0
            // Who may connect comes back, also where an empty database was there.
            order.restoresAccess = true
            let outcome = try await work.restore(
                manifest, from: repository, into: target, order, progress: BackupScope.progress(invocation.console))
            for note in outcome.missing.map(\.description) + outcome.notes {
                invocation.console.note("'\(one.name)': \(note)")
            }
            missing += outcome.missing
            try await work.withLedger {
                try BackupLedger.restored(
                    id: manifest.id, target: target.withoutPassword.uri, actor: Invocation.person, on: $0)
            }
            await work.takeOver(after: "the recovery")
            // The restored chain ends at the time of the backup, and anchors made after that time contradict it. The
            // user who recovers the database thereby accepts the chain.
            do {
                try await AuditWork(open: open, configuration: estate.configuration, logger: estate.logger)
                    .anchor(accepting: "\(Invocation.person): recovered from backup \(manifest.id)")
            } catch {
                invocation.console.note("'\(one.name)': the audit chain could not be anchored: \(error)")
            }
            lines.append(
                "\(one.name): restored from \(manifest.id), as of \(manifest.startedAt)\(places(target, manifest))"
                    + (outcome.missing.isEmpty
                        ? "" : "; \(counted(outcome.missing.count, "object")) could not be restored"))
            invocation.interruption.did("recovered '\(one.name)' from \(manifest.id)")
        }
        invocation.console.result(
            ["recovered": .array(values), "missing": BackupText.missing(missing)],
            text: lines.joined(separator: "\n"))
        return missing.isEmpty ? .done : .finding
    }

    /// Names the database that is filled, and its source.
    private static func places(_ target: ConnectionSettings, _ manifest: Manifest) -> String {
        guard let name = target.parameters["dbname"] else { return "" }
        return ", into the database '\(visible(name))'"
            + (name == manifest.source ? "" : ", which was '\(manifest.shownSource)' when it was backed up")
    }

    /// Returns the settings with the name of the database, which must be known before it is created.
    ///
    /// - Throws: `UsageError` if nothing names it: libpq would connect to the database with the name of the user.
    private static func named(
        _ settings: ConnectionSettings, of name: String, _ manifest: Manifest, configuration: Configuration
    ) throws -> ConnectionSettings {
        if settings.parameters["dbname"] != nil || settings.parameters["service"] != nil { return settings }
        guard let database = configuration.environment["PGDATABASE"], !database.isEmpty else {
            throw UsageError(
                "the address of '\(name)' does not name a database",
                hint: "its backup is of '\(manifest.shownSource)': set PGDATABASE, or name a database in DATABASE_URL")
        }
        return settings.database(database)
    }

    /// Returns a search for the backup of a database that may not exist. If it exists, its ledger is compared with the
    /// repositories.
    private static func search(
        _ one: DatabaseConfiguration, _ repositories: [Repository], _ invocation: Invocation
    ) async throws -> BackupSearch {
        let console = invocation.console
        var others: [String] = []
        var isThere = false
        for repository in repositories {
            guard let names = try? await repository.names() else {
                isThere = true
                continue
            }
            isThere = isThere || names.contains { $0.name == one.name }
            others += names.map {
                "\(counted($0.backups, "backup")) of '\(visible($0.name))' in \(repository.store.place)"
            }
        }
        var evidence = RepositoryReview.Evidence()
        if case .connection(let given) = one.source {
            evidence = (try? await .read(from: (one.direct ?? given).named("reeve recover"))) ?? evidence
        }
        guard isThere || evidence.records?.isEmpty == false else {
            throw BackupError.noneOf(name: one.name, others: others)
        }
        if evidence.estate == nil {
            let names = others.isEmpty ? "" : "; they have \(others.joined(separator: ", "))"
            console.note(
                "there is no ledger of '\(one.name)', so it is not known whether a newer backup than those in the "
                    + "repositories was made\(names)")
        }
        evidence.keys = try BackupSettings.keys(try invocation.estate().configuration)
        return BackupSearch(
            database: one.name, repositories: repositories, evidence: evidence,
            allowing: BackupScope.allowance(invocation)
        ) { console.note($0) }
    }
}
