import Backups
import Foundation
import Kernel
import Ledger
import Postgres
import Reporting
import Storage

/// The commands `reeve backup …` about repositories as a whole.
enum RepositoryCommands {
    static let initialize = CommandSpec(
        noun: "backup", verb: "init", summary: "make the configured places repositories",
        discussion:
            "Writes a mark, repository.json, to each place of backup.repository, and creates a folder that does not "
            + "exist. Without the mark, nothing is written to a place: a mount point whose disk is not mounted, or a "
            + "mistyped path, is refused. A place that contains anything but backups is refused, too. A repository "
            + "of an earlier version gets the mark and keeps its backups.",
        options: [BackupScope.repository]
    ) { invocation in
        let configuration = try invocation.estate().configuration
        var repositories = try BackupSettings.repositories(configuration)
        if let place = invocation.option("repository") {
            repositories = [try BackupWork.repository(place, of: repositories)]
        }
        var values: [JSONValue] = []
        var lines: [String] = []
        for repository in repositories {
            let isNew = try await repository.initialize()
            values.append(["repository": .string(repository.store.place), "new": .bool(isNew)])
            lines.append("\(repository.store.place) \(isNew ? "is now" : "already is") a repository")
        }
        invocation.console.result(["repositories": .array(values)], text: lines.joined(separator: "\n"))
        return .done
    }

    static let list = CommandSpec(
        noun: "backup", verb: "list", summary: "list the backups, and when each was proved by a restore test",
        discussion:
            "The newest backup is the recovery point: no moment between two backups can be restored. The column PROVED "
            + "shows the proof that is stored with the backup; 'prune' uses the ledger's record instead. The "
            + "repositories are compared with the ledger. Exits with 3 if a backup is missing, damaged, changed or not "
            + "signed, or belongs to another database.",
        options: [BackupScope.repository]
    ) { invocation in
        try await BackupScope.forEach(invocation) { work in
            let console = invocation.console
            let evidence = await work.evidence { console.note($0) }
            let repositories = try BackupScope.repositories(invocation, work)
            var listing = Listing(hasSeveral: repositories.count > 1)
            for repository in repositories {
                do {
                    try await listing.add(repository, of: work.open.name, evidence, console)
                } catch let error as StorageError {
                    // Continue with the other repositories, which may have the backup that the user needs.
                    listing.status = .failed
                    console.note("error: \(error)")
                }
            }
            return listing.report
        }
    }

    /// The backups of several repositories, as `list` shows them.
    private struct Listing {
        let hasSeveral: Bool
        var status = ExitCode.done
        private var values: [JSONValue] = []
        private var findings: [JSONValue] = []
        private var table: TextTable

        init(hasSeveral: Bool) {
            self.hasSeveral = hasSeveral
            table = TextTable(["ID", "DATABASE", "SIZE", "FINISHED", "PROVED"] + (hasSeveral ? ["REPOSITORY"] : []))
        }

        mutating func add(
            _ repository: Repository, of database: String, _ evidence: RepositoryReview.Evidence, _ console: Console
        ) async throws {
            let contents = try await repository.contents(of: database)
            let review = RepositoryReview(of: contents, against: evidence)
            for id in review.unrecorded.sorted() {
                console.note("\(repository.store.place): \(RepositoryProblem.unrecorded(id: id))")
            }
            for problem in review.problems {
                if status == .done { status = .finding }
                console.note("warning: \(repository.store.place): \(problem)\nhint: \(problem.hint)")
                findings.append([
                    "repository": .string(repository.store.place), "backup": .string(problem.id),
                    "message": .string(problem.description), "mend": .string(problem.hint),
                ])
            }
            if contents.damaged.values.contains(where: { if case .manifestNotRead = $0 { true } else { false } }) {
                status = .failed
            }
            for stored in contents.manifests {
                let manifest = stored.manifest
                let (proof, proved) = await proof(of: stored, in: repository, evidence, console)
                table.add(
                    [manifest.id, manifest.database, BackupText.size(manifest.bytes), manifest.finishedAt, proved]
                        + (hasSeveral ? [repository.store.place] : []))
                values.append(BackupText.listed(manifest, proof, repository.store.place))
            }
        }

        private mutating func proof(
            of stored: StoredManifest, in repository: Repository, _ evidence: RepositoryReview.Evidence,
            _ console: Console
        ) async -> (Proof?, String) {
            do {
                guard let proof = try await Proof.readVouched(stored, in: repository, against: evidence) else {
                    return (nil, "never tested")
                }
                return (
                    proof, proof.isProved ? proof.testedAt : "no: \(counted(proof.differences.count, "difference"))"
                )
            } catch {
                status = .failed
                console.note("error: \(error)")
                return (nil, "unknown")
            }
        }

        var report: DatabaseScope.Report {
            let newest =
                values.isEmpty ? "" : "\nThe newest backup is the recovery point: later changes are in no backup."
            return DatabaseScope.Report(
                ["backups": .array(values), "findings": .array(findings)],
                values.isEmpty ? BackupText.none(isWhole: status == .done) : table.text + newest, status)
        }
    }

    static let forget = CommandSpec(
        noun: "backup", verb: "forget", summary: "give up backups that are gone from a repository",
        discussion:
            "The ledger keeps the record of a backup that is gone although nothing has removed it, and 'list', "
            + "'verify', 'restore', 'doctor' and the metric reeve_backup_missing tell of it. This command drops that "
            + "record. A backup that the repository has is not forgotten.",
        arguments: [ArgumentSpec(name: "ID", help: "the ID of a backup", isRequired: false)],
        options: [
            .flag("all", "all backups that are gone"), BackupScope.repository, .dryRun,
            .option("confirm", "NAME", "the database's name, to skip the question"),
        ]
    ) { invocation in
        let id = invocation.arguments.positional.first
        guard (id != nil) != invocation.has("all") else {
            throw UsageError("'reeve backup forget' requires the ID of a backup, or --all")
        }
        return try await BackupScope.forEach(invocation) { work in
            let places = Set(try BackupScope.repositories(invocation, work).map(\.store.place))
            let gone = try await work.gone().filter { places.contains($0.place) && (id == nil || $0.id == id) }
            if gone.isEmpty, let id { throw BackupError.notGone(id: id) }
            if !invocation.isDryRun, !gone.isEmpty {
                try invocation.confirm(
                    "the record of \(counted(gone.count, "missing backup")) of '\(work.open.name)' would be dropped",
                    name: work.open.name)
                try await work.forget(gone, actor: Invocation.person)
            }
            let lines = gone.map { "\(invocation.isDryRun ? "would forget" : "forgot") \($0.id) in \($0.place)" }
            return DatabaseScope.Report(
                ["forgotten": .array(gone.map { ["id": .string($0.id), "repository": .string($0.place)] })],
                lines.isEmpty ? "no backup is missing" : lines.joined(separator: "\n"))
        }
    }
}
