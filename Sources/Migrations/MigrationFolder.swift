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
            guard let name = FileName(file) else { throw MigrationError.badFileName(path: "\(folder)/\(file)") }
            return (name: name, path: "\(folder)/\(file)")
        }
        var ups: [MigrationKey: MigrationScript] = [:]
        var downs: [MigrationKey: MigrationScript] = [:]
        for (file, scripts) in zip(files, try Self.read(files)) {
            for (direction, script) in scripts {
                let known = direction == .up ? ups[file.name.key] : downs[file.name.key]
                if let known { throw MigrationError.duplicateVersion(known.path, script.path) }
                if direction == .up { ups[file.name.key] = script } else { downs[file.name.key] = script }
            }
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

    /// Reads and scans files on all cores. If several files fail, throws the error of the file that comes first in
    /// `paths`.
    private static func read(
        _ files: [(name: FileName, path: String)]
    ) throws -> [[(MigrationAction.Direction, MigrationScript)]] {
        let results = Mutex(
            [Result<[(MigrationAction.Direction, MigrationScript)], any Error>?](repeating: nil, count: files.count))
        let size = 32
        DispatchQueue.concurrentPerform(iterations: (files.count + size - 1) / size) { part in
            let range = part * size..<min((part + 1) * size, files.count)
            let scripts = range.map { number in Result { try Self.scripts(of: files[number].name, files[number].path) }
            }
            results.withLock { $0.replaceSubrange(range, with: scripts.map(Optional.some)) }
        }
        return try results.withLock { try $0.compactMap { try $0?.get() } }
    }

    private static func scripts(
        of name: FileName, _ path: String
    ) throws -> [(MigrationAction.Direction, MigrationScript)] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw MigrationError.unreadable(path: path, reason: "it cannot be read")
        }
        let bytes = Array(data)
        switch name.content {
        case .up: return [(.up, try MigrationScript(path: path, bytes: bytes))]
        case .down: return [(.down, try MigrationScript(path: path, bytes: bytes))]
        case .both:
            let parts = try ScriptParts(bytes, path: path)
            return [(.up, try MigrationScript(path: path, bytes: parts.up))]
                + (try parts.down.map { [(.down, try MigrationScript(path: path, bytes: $0))] } ?? [])
        }
    }
}

/// What identifies a migration in its folder.
private struct MigrationKey: Hashable {
    /// nil for a repeatable migration.
    let version: Int?
    let name: String
}

/// The name of a migration file: `NNNN_name.up.sql`, `NNNN_name.down.sql`, `NNNN_name.sql`, `R__name.sql` or
/// `R__name.down.sql`.
private struct FileName {
    enum Content { case up, down, both }

    let key: MigrationKey
    let content: Content

    // This initializer uses no regular expression, because a regular expression would be compiled for each of possibly
    // thousands of files.
    init?(_ file: String) {
        guard file.hasSuffix(".sql") else { return nil }
        var stem = file.dropLast(".sql".count)
        if stem.hasPrefix("R__") {
            stem = stem.dropFirst("R__".count)
            let isDown = stem.hasSuffix(".down")
            if isDown { stem = stem.dropLast(".down".count) }
            guard Self.isWord(stem) else { return nil }
            key = MigrationKey(version: nil, name: String(stem))
            content = isDown ? .down : .both
            return
        }
        if stem.hasSuffix(".down") {
            (stem, content) = (stem.dropLast(".down".count), .down)
        } else if stem.hasSuffix(".up") {
            (stem, content) = (stem.dropLast(".up".count), .up)
        } else {
            content = .both
        }
        let digits = stem.utf8.prefix { (0x30...0x39).contains($0) }
        guard (1...18).contains(digits.count), let version = Int(Substring(digits)) else { return nil }
        let rest = stem[digits.endIndex...]
        guard rest.first == "_", Self.isWord(rest.dropFirst()) else { return nil }
        key = MigrationKey(version: version, name: String(rest.dropFirst()))
    }

    private static func isWord(_ text: Substring) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || byte == UInt8(ascii: "_")
                    || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
            }
    }
}
