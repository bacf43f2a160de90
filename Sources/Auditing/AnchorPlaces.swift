import Foundation
import Kernel
import Ledger
import Postgres
import Processes
import Storage

/// A place outside the database that stores the anchors of audit chains (see `AuditAnchor`). Calls block.
public protocol AnchorPlace: Sendable {
    var place: String { get }

    /// Stores an anchor. If the place already has the anchor, it is not stored a second time. A repository must have
    /// its mark.
    func keep(_ anchor: AuditAnchor) throws

    /// Whether the place stores exactly this anchor.
    func has(_ anchor: AuditAnchor) throws -> Bool

    /// Returns the texts that are stored as anchors of a database. Some of them may not be genuine anchors.
    func texts(of name: String) throws -> [String]

    /// Removes old anchors. Those that `AuditAnchor.kept` selects and those of the kind `accepted` remain.
    func thin(_ name: String) throws

    /// Whether the place has neither a backup nor an anchor of a database, for example because the disk below a mount
    /// point is not mounted.
    func isEmpty(of name: String) throws -> Bool
}

extension AnchorPlace {
    /// Returns false. This is the default for places that do not store backups: the ledger does not show whether such a
    /// place should be empty.
    func isEmpty(of name: String) throws -> Bool { false }
}

/// Stores the anchors of all databases as lines of a file in the state folder.
struct AnchorFile: AnchorPlace {
    let file: PrivateFile
    /// The number of lines above which the file is thinned.
    var limit = 4000

    init(state: String) { file = PrivateFile(path: "\(state)/audit.anchors") }

    var place: String { file.path }

    func keep(_ anchor: AuditAnchor) throws {
        try file.locked {
            let before = try lines()
            if before.contains(anchor.text) { return }
            // Do not append to a line that was cut short by a crash.
            let isWhole = try file.read().map { $0.isEmpty || $0.last == UInt8(ascii: "\n") } ?? true
            try file.append(Array(((isWhole ? "" : "\n") + anchor.text + "\n").utf8))
        }
    }

    func has(_ anchor: AuditAnchor) throws -> Bool { try lines().contains(anchor.text) }

    func texts(of name: String) throws -> [String] {
        // A line that is not a valid anchor is returned too, because it may be a damaged anchor of this database.
        try lines().filter { AuditAnchor($0).map { $0.name == name } ?? true }
    }

    func thin(_ name: String) throws {
        try file.locked {
            let lines = try lines()
            guard lines.count > limit else { return }
            let anchors = lines.map { AuditAnchor($0) }
            var kept: [String: Set<Timestamp>] = [:]
            for (name, all) in Dictionary(grouping: anchors.compactMap { $0 }, by: Self.chain) {
                kept[name] = AuditAnchor.kept(all.map(\.at))
            }
            let staying = zip(lines, anchors).filter { _, anchor in
                guard let anchor else { return true }
                return anchor.kind == .accepted || kept[Self.chain(anchor)]?.contains(anchor.at) == true
            }
            try file.replace(Array(staying.map { $0.0 + "\n" }.joined().utf8))
        }
    }

    /// Returns the group of an anchor for thinning: the database's name, the ledger and the ID of the signing key. Each
    /// group is thinned separately, so that the anchors of one ledger do not displace those of another ledger.
    private static func chain(_ anchor: AuditAnchor) -> String {
        "\(anchor.name) \(anchor.identity.ledger) \(anchor.keyID)"
    }

    private func lines() throws -> [String] {
        guard let bytes = try file.read() else { return [] }
        return bytes.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
    }
}

/// Stores anchors as objects in the folder `audit.anchors` of a repository. No database has its backups in this folder,
/// because the name of a database cannot contain a dot.
struct AnchorFolder: AnchorPlace {
    let store: any ObjectStore
    /// The maximum number of anchors that are read, the newest first. Anchors of the kind `accepted` are always read,
    /// and do not count.
    var limit = 2000

    private static let folder = "audit.anchors"
    private static let suffix = ".anchor"
    private static let accepted = ".accepted"

    var place: String { store.place }

    private func prefix(_ name: String) -> String { "\(Self.folder)/\(AuditAnchor.encodedName(name))/" }

    /// Returns the name of an anchor's object. The name begins with the anchor's time in microseconds, so that the
    /// newest anchor is last in a sorted list.
    private func object(_ anchor: AuditAnchor) -> String {
        let time = String(max(0, anchor.at.microseconds))
        let code = String(Substring(anchor.text.utf8.suffix(12)))
        return prefix(anchor.name) + String(repeating: "0", count: max(0, 17 - time.utf8.count)) + time + "-" + code
            + (anchor.kind == .accepted ? Self.accepted : Self.suffix)
    }

    func keep(_ anchor: AuditAnchor) throws {
        _ = try RepositoryMark.require(in: store)
        let object = object(anchor)
        let writer = try store.write(object)
        do {
            try Array((anchor.text + "\n").utf8).withUnsafeBytes { try writer.write($0) }
            try writer.commit()
        } catch {
            writer.discard()
            throw error
        }
    }

    func has(_ anchor: AuditAnchor) throws -> Bool { try text(of: object(anchor)) == anchor.text }

    func texts(of name: String) throws -> [String] {
        let names = try objects(of: name)
        let accepted = names.filter { $0.hasSuffix(Self.accepted) }
        return try (accepted + names.filter { $0.hasSuffix(Self.suffix) }.suffix(limit)).compactMap(text)
    }

    func isEmpty(of name: String) throws -> Bool {
        try store.list(prefix(name)).isEmpty && store.list("\(name)/").isEmpty
    }

    private func text(of object: String) throws -> String? {
        do {
            let reader = try store.read(object)
            var bytes: [UInt8] = []
            while bytes.count < 65536, let piece = try reader.next() { bytes += piece }
            return String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .newlines)
        } catch StorageError.missing {
            return nil
        }
    }

    func thin(_ name: String) throws {
        let times = try objects(of: name).compactMap { object -> (String, Timestamp)? in
            guard object.hasSuffix(Self.suffix), let time = Self.time(of: object) else { return nil }
            return (object, time)
        }
        let kept = AuditAnchor.kept(times.map(\.1))
        for (object, time) in times where !kept.contains(time) { try store.delete(object) }
    }

    private func objects(of name: String) throws -> [String] {
        try store.list(prefix(name)).map(\.name).filter { $0.hasSuffix(Self.suffix) || $0.hasSuffix(Self.accepted) }
    }

    private static func time(of object: String) -> Timestamp? {
        let digits = object.utf8.split(separator: UInt8(ascii: "/")).last?.prefix { $0 != UInt8(ascii: "-") }
        return digits.flatMap { Int64(String(Substring($0))) }.map { Timestamp(microseconds: $0) }
    }
}

/// Runs `body` on a separate thread, because `body` may hang, and waits for `body` no longer than the limit.
///
/// - Throws: `AuditError.late` if the limit is exceeded (the thread is then abandoned); `StorageError.hung` if too many
///   threads for this place are already hanging; the errors of `body`.
func withinLimit<T: Sendable>(
    _ limit: Duration, place: String, _ body: @escaping @Sendable () throws -> T
) async throws -> T {
    do {
        return try await BoundedThreads.named(place).call(limit: limit, body)
    } catch BoundedThreads.GivenUp.late(let limit) {
        throw AuditError.late(place: place, limit: limit)
    } catch BoundedThreads.GivenUp.tooManyHung(let calls) {
        throw StorageError.hung(place: place, calls: calls)
    }
}
