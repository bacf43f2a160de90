import Backups
import Foundation
import Kernel
import Reporting

/// The common options and functions of the backup commands.
enum BackupScope {
    static let identity = OptionSpec.option("identity", "FILE", "the file with the age identity that opens the backup")
    static let repository = OptionSpec.option("repository", "PLACE", "use only this repository")
    static let tablespace = OptionSpec.option(
        "tablespace", "OLD=NEW", "put the objects of the tablespace OLD into the tablespace NEW", repeated: true)

    /// Returns the value of `--identity`.
    ///
    /// - Throws: `UsageError` if the file cannot be read.
    static func identity(_ invocation: Invocation) throws -> String? {
        guard let path = invocation.option("identity") else { return nil }
        guard access(path, R_OK) == 0 else {
            throw UsageError(
                "--identity: \(path): \(String(cString: strerror(errno)))",
                hint: "name a file that contains an age identity")
        }
        return path
    }

    /// Parses the values of `--tablespace`.
    ///
    /// - Throws: `UsageError`.
    static func tablespaces(_ invocation: Invocation) throws -> [String: String] {
        try invocation.options("tablespace").reduce(into: [:]) { result, text in
            let names = text.split(separator: "=", maxSplits: 1).map(String.init)
            guard names.count == 2, names.allSatisfy({ !$0.isEmpty }) else {
                throw UsageError("--tablespace: '\(text)' is not of the form OLD=NEW")
            }
            result[names[0]] = names[1]
        }
    }

    static let trust = OptionSpec.option(
        "trust", "ROLE",
        "let functions of this role run during the restore, in addition to those of the setting trusted_roles",
        repeated: true)
    static let allowances: [OptionSpec] = [
        .flag("allow-older", "use an older backup if the newest one that is known is missing or damaged"),
        .flag(
            "allow-unverified",
            "use a backup that is not the one that the ledger records, is not signed, or is of another database"),
    ]
    static let backup = ArgumentSpec(name: "ID", help: "the ID of a backup, or 'latest'", isRequired: false)

    /// Runs `body` for the backups of each selected database, and prints the results (see `DatabaseScope.forEach`).
    static func forEach(
        _ invocation: Invocation, _ body: (BackupWork) async throws -> DatabaseScope.Report
    ) async throws -> ExitCode {
        try await DatabaseScope.forEach(invocation) { one, estate in
            let open = try await estate.open(one)
            return try await body(
                BackupWork(open: open, configuration: estate.configuration, logger: estate.logger))
        }
    }

    /// Returns what the options `allowances` allow.
    static func allowance(_ invocation: Invocation) -> BackupSearch.Allowance {
        var allowance: BackupSearch.Allowance = []
        if invocation.has("allow-older") { allowance.insert(.older) }
        if invocation.has("allow-unverified") { allowance.insert(.unverified) }
        return allowance
    }

    /// Returns a search in the repositories that a command uses.
    static func search(
        _ invocation: Invocation, _ work: BackupWork, allowing: BackupSearch.Allowance? = nil
    ) async throws -> BackupSearch {
        let console = invocation.console
        return try await work.search(
            in: invocation.option("repository"), allowing: allowing ?? allowance(invocation)
        ) { console.note($0) }
    }

    /// Returns the repositories that a command uses: the named one, or all.
    static func repositories(_ invocation: Invocation, _ work: BackupWork) throws -> [Repository] {
        guard let place = invocation.option("repository") else { return work.repositories }
        return [try BackupWork.repository(place, of: work.repositories)]
    }

    /// Returns a function that prints the progress, the speed and the remaining time of a restore, or of another work
    /// that reads parts of a backup.
    static func progress(_ console: Console, _ verb: String = "restored") -> Restorer.Progress {
        let began = ContinuousClock.now
        let shown = LastShown()
        return { done, total in
            guard shown.isDue() else { return }
            let seconds = max((ContinuousClock.now - began).inSeconds, 0.001)
            let rate = Double(done) / seconds
            let left = Int(Double(total - done) / max(rate, 1))
            console.progress(
                "\(verb) \(BackupText.size(done)) of \(BackupText.size(total)), \(BackupText.size(Int(rate)))/s, "
                    + "about \(left) s left")
        }
    }

    /// Limits the progress messages to five per second.
    private final class LastShown: @unchecked Sendable {
        // @unchecked: `last` is accessed only while `lock` is held.
        private let lock = NSLock()
        private var last = ContinuousClock.now - .seconds(1)

        func isDue() -> Bool {
            lock.withLock {
                guard ContinuousClock.now - last > .milliseconds(200) else { return false }
                last = .now
                return true
            }
        }
    }
}
