import Backups
import Foundation
import Kernel
import Reporting

/// The common options and functions of the backup commands.
enum BackupScope {
    static let identity = OptionSpec.option("identity", "FILE", "the file with the age identity that opens the backup")
    static let repository = OptionSpec.option("repository", "PLACE", "use only this repository")
    static let trust = OptionSpec.option(
        "trust", "ROLE",
        "let functions of this role run during the restore, in addition to those of the setting trusted_roles",
        repeated: true)
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

    /// Returns the repositories that a command uses: the named one, or all.
    static func repositories(_ invocation: Invocation, _ work: BackupWork) throws -> [Repository] {
        guard let place = invocation.option("repository") else { return work.repositories }
        return [try BackupWork.repository(place, of: work.repositories)]
    }

    /// Returns a function that prints the progress, the speed and the remaining time of a restore.
    static func progress(_ console: Console) -> Restorer.Progress {
        let began = ContinuousClock.now
        let shown = LastShown()
        return { done, total in
            guard shown.isDue() else { return }
            let seconds = max((ContinuousClock.now - began).inSeconds, 0.001)
            let rate = Double(done) / seconds
            let left = Int(Double(total - done) / max(rate, 1))
            console.progress(
                "restored \(BackupText.size(done)) of \(BackupText.size(total)), \(BackupText.size(Int(rate)))/s, "
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
