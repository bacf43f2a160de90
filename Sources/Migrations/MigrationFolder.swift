import Foundation
import Postgres
import Synchronization

/// A migration of a folder: its up script, and its down script if it has one.
public struct Migration: Sendable {
    /// The version; nil for a repeatable migration.
    public let version: Int?
    public let name: String
    public let up: MigrationScript
    public let down: MigrationScript?

    /// `0003_name`, or `R__name`.
    public var title: String { Self.title(version: version, name: name) }

    static func title(version: Int?, name: String) -> String {
        guard let version else { return "R__\(name)" }
        let digits = String(version)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits + "_" + name
    }
}

/// The migrations of one system, read from its folder.
public struct MigrationFolder: Sendable {
    /// The versioned migrations, ordered by version.
    public let versioned: [Migration]
    /// The repeatable migrations, ordered by name.
    public let repeatable: [Migration]

    /// - Throws: `MigrationError` if a file cannot be read, a file name is invalid, a version exists twice or a down
    ///   script has no up script; `SQLScriptError`.
    public init(reading folder: String) throws {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        } catch {
            throw MigrationError.unreadable(path: folder, reason: "it cannot be listed")
        }
        let files = try names.filter { $0.hasSuffix(".sql") }.map { file in
            guard let (name, isDown) = FileName.parse(file) else {
                throw MigrationError.badFileName(path: "\(folder)/\(file)")
            }
            return (name: name, isDown: isDown, path: "\(folder)/\(file)")
        }
        var ups: [FileName: MigrationScript] = [:]
        var downs: [FileName: MigrationScript] = [:]
        for (file, script) in zip(files, try Self.read(files.map(\.path))) {
            if file.isDown { downs[file.name] = script } else { ups[file.name] = script }
        }
        if let orphan = downs.keys.first(where: { ups[$0] == nil }), let script = downs[orphan] {
            throw MigrationError.downWithoutUp(path: script.path)
        }
        let all = ups.map { Migration(version: $0.version, name: $0.name, up: $1, down: downs[$0]) }
        versioned = all.filter { $0.version != nil }.sorted { ($0.version ?? 0, $0.name) < ($1.version ?? 0, $1.name) }
        repeatable = all.filter { $0.version == nil }.sorted { $0.name < $1.name }
        for (first, second) in zip(versioned, versioned.dropFirst()) where first.version == second.version {
            throw MigrationError.duplicateVersion(first.up.path, second.up.path)
        }
    }

    private init(versioned: [Migration], repeatable: [Migration]) {
        self.versioned = versioned
        self.repeatable = repeatable
    }

    func filtered(_ isWanted: (Migration) -> Bool) -> MigrationFolder {
        MigrationFolder(versioned: versioned.filter(isWanted), repeatable: repeatable.filter(isWanted))
    }

    /// Reads and scans files on all cores. If several files fail, throws the error of the file that comes first in
    /// `paths`.
    private static func read(_ paths: [String]) throws -> [MigrationScript] {
        let results = Mutex([Result<MigrationScript, any Error>?](repeating: nil, count: paths.count))
        let size = 32
        DispatchQueue.concurrentPerform(iterations: (paths.count + size - 1) / size) { part in
            let range = part * size..<min((part + 1) * size, paths.count)
            let scripts = range.map { number in
                Result {
                    guard let data = FileManager.default.contents(atPath: paths[number]) else {
                        throw MigrationError.unreadable(path: paths[number], reason: "it cannot be read")
                    }
                    return try MigrationScript(path: paths[number], source: Array(data))
                }
            }
            results.withLock { $0.replaceSubrange(range, with: scripts.map(Optional.some)) }
        }
        return try results.withLock { try $0.compactMap { try $0?.get() } }
    }

    private struct FileName: Hashable {
        let version: Int?
        let name: String

        // This function uses no regular expression, because a regular expression would be compiled for each of possibly
        // thousands of files.
        static func parse(_ file: String) -> (FileName, isDown: Bool)? {
            guard file.hasSuffix(".sql") else { return nil }
            var stem = file.dropLast(".sql".count)
            if stem.hasPrefix("R__") {
                stem = stem.dropFirst("R__".count)
                let isDown = stem.hasSuffix(".down")
                if isDown { stem = stem.dropLast(".down".count) }
                return isWord(stem) ? (FileName(version: nil, name: String(stem)), isDown) : nil
            }
            let isDown = stem.hasSuffix(".down")
            guard isDown || stem.hasSuffix(".up") else { return nil }
            stem = stem.dropLast(isDown ? ".down".count : ".up".count)
            let digits = stem.utf8.prefix { (0x30...0x39).contains($0) }
            guard (1...9).contains(digits.count), let version = Int(Substring(digits)), version > 0 else { return nil }
            let rest = stem[digits.endIndex...]
            guard rest.first == "_", isWord(rest.dropFirst()) else { return nil }
            return (FileName(version: version, name: String(rest.dropFirst())), isDown)
        }

        private static func isWord(_ text: Substring) -> Bool {
            !text.isEmpty
                && text.utf8.allSatisfy { byte in
                    (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || byte == UInt8(ascii: "_")
                        || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
                }
        }
    }
}
