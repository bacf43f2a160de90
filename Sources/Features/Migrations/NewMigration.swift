import Foundation
import Kernel
import Migrations

/// The files of a new migration.
struct NewMigration {
    let system: MigrationSystem
    let name: String
    let isRepeatable: Bool

    /// Creates the files.
    ///
    /// - Returns: the paths of the files.
    /// - Throws: `MigrationError` if the folder cannot be read; `UsageError` if a file already exists.
    func write() throws -> [String] {
        let folder = try MigrationFolder(reading: system.folder)
        let files: [(String, String)]
        if isRepeatable {
            files = [
                ("R__\(name).sql", "-- Applied again whenever its statements change: write CREATE OR REPLACE.\n"),
                ("R__\(name).down.sql", "-- Drops the objects that R__\(name).sql creates.\n"),
            ]
        } else {
            // Opt-in migrations are ignored, because they have their own numbers.
            let highest = folder.versioned.filter { $0.up.directives.option == nil }.compactMap(\.version).max() ?? 0
            let digits = String(Self.next(after: highest, at: Date()))
            let title = String(repeating: "0", count: max(0, 4 - digits.count)) + digits + "_" + name
            files = [
                ("\(title).up.sql", "-- \(name.replacing("_", with: " "))\n"),
                ("\(title).down.sql", "-- Undoes \(title).up.sql.\n"),
            ]
        }
        return try files.map { file, text in
            let path = "\(system.folder)/\(file)"
            guard !FileManager.default.fileExists(atPath: path) else { throw UsageError("\(path) already exists") }
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            return path
        }
    }

    /// Returns the version of a new migration: the highest version plus one or, if that version is a time such as
    /// 20240131120000, the current time in UTC.
    static func next(after highest: Int, at now: Date) -> Int {
        guard highest >= 10_000_000_000_000 else { return highest + 1 }
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        let parts = calendar.dateComponents([.year, .month, .day, .hour, .minute, .second], from: now)
        let fields = [parts.year, parts.month, parts.day, parts.hour, parts.minute, parts.second]
        let time = zip(fields, [1, 100, 100, 100, 100, 100]).reduce(0) { $0 * $1.1 + ($1.0 ?? 0) }
        return max(time, highest + 1)
    }
}
