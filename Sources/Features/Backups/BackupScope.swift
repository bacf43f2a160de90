import Backups
import Foundation
import Kernel
import Reporting

/// What the commands about backups have in common.
enum BackupScope {
    static let identity = OptionSpec.option("identity", "FILE", "the age identity that opens the backup")
    static let repository = OptionSpec.option("repository", "PLACE", "look only into this one of the repositories")
    static let trust = OptionSpec.option(
        "trust", "ROLE", "let this role's functions run while rows come; beside backup.trusted_roles", repeated: true)
    static let backup = ArgumentSpec(name: "ID", help: "a backup, or latest", isRequired: false)

    /// Counts over several databases.
    final class Tally { var count = 0 }

    /// Runs `body` for each database that is worked on, and prints one object, or one text for each.
    @discardableResult
    static func forEach(
        _ invocation: Invocation, _ body: (BackupWork) async throws -> (JSONValue, String)
    ) async throws -> ExitCode {
        let estate = try invocation.estate()
        var texts: [String] = []
        var values: [JSONValue] = []
        for one in try estate.selected(invocation.option("database")) {
            let open = try await estate.open(one)
            let work = try BackupWork(open: open, configuration: estate.configuration, logger: estate.logger)
            let (json, text) = try await body(work)
            values.append(json)
            texts.append(text)
        }
        invocation.console.result(
            values.count == 1 ? values[0] : ["databases": .array(values)], text: texts.joined(separator: "\n"))
        return .done
    }

    /// The repositories that a command looks into.
    static func repositories(_ invocation: Invocation, _ work: BackupWork) throws -> [Repository] {
        guard let place = invocation.option("repository") else { return work.repositories }
        return [try BackupWork.repository(place, of: work.repositories)]
    }

    /// Shows how far a restore is, how fast it goes and how long it will take.
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

    /// Lets something be shown a few times a second.
    private final class LastShown: @unchecked Sendable {
        // Under the lock.
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
