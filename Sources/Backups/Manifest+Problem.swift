import Postgres
import Storage

/// The validation of manifests. Anyone who can write to the repository can write a manifest, so no name in it may refer
/// to an object outside the backup's database.
extension Manifest {
    /// Returns why this cannot be the manifest that is stored as `object`; nil if it can. Pure: no I/O.
    func problem(as object: String) -> String? {
        guard ObjectName.isValid(object), object.utf8.elementsEqual("\(prefix)/\(Self.name)".utf8) else {
            return "it claims to be backup \(id.debugDescription) of \(database.debugDescription)"
        }
        if parts.isEmpty { return "it lists no parts" }
        if let part = parts.first(where: { !isOwn($0.object) }) {
            return "\(part.object.debugDescription) is not the name of a part of a backup of '\(database)'"
        }
        if let part = parts.first(where: { !Self.isSHA256($0.sha256) }) { return "\(part.object) has no valid SHA-256" }
        if let setting = settings.first(where: { DatabaseSetting($0) == nil }) {
            return "\(setting.debugDescription) is not a setting of a database"
        }
        if let estate, !Self.isSHA256(estate) { return "its field 'estate' is not a SHA-256" }
        if let previous,
            !Self.isSHA256(previous.content) || !ObjectName.isValid("\(database)/\(previous.id)/\(Self.name)")
        {
            return "its field 'previous' does not name a backup"
        }
        // The names of databases and roles are not checked: they may contain control characters.
        let words = [reeve, pgDump, snapshot, wal ?? "", startedAt, finishedAt, origin?.system ?? ""] + recipients
        if let word = words.first(where: Self.hasControl) {
            return "\(word.debugDescription) contains control characters"
        }
        return hasPlausibleNumbers ? nil : "its numbers are implausible"
    }

    /// The name of the source database on one line, for people.
    public var shownSource: String { Self.hasControl(source) ? source.debugDescription : source }

    /// Whether an object has a name of the form `DATABASE/ID/PART` with the database of this backup, and is not a
    /// manifest or a test result.
    private func isOwn(_ object: String) -> Bool {
        let words = object.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let others = [Self.name] + Proof.objects
        return ObjectName.isValid(object) && words.count == 3 && words[0].elementsEqual(database.utf8)
            && !others.contains { words[2].elementsEqual($0.utf8) }
    }

    private static func isSHA256(_ text: String) -> Bool {
        text.utf8.count == 64 && text.utf8.allSatisfy { "0123456789abcdef".utf8.contains($0) }
    }

    private static func hasControl(_ text: String) -> Bool {
        text.unicodeScalars.contains { $0.properties.generalCategory == .control }
    }

    /// Whether all numbers are so small that no sum of them overflows.
    private var hasPlausibleNumbers: Bool {
        let sizes = 0...1 << 44
        let counts = 0...1 << 42
        let total = 1 << 50
        let slices = parts.compactMap(\.slice)
        return parts.count <= 1 << 18 && tables.count <= 1 << 20 && sizes.contains(databaseBytes)
            && parts.allSatisfy { sizes.contains($0.bytes) } && tables.allSatisfy { counts.contains($0.rows) }
            && slices.allSatisfy { counts.contains($0.firstPage) && counts.contains($0.rows) }
            && slices.allSatisfy { counts.contains($0.endPage ?? 0) } && counts.contains(largeObjects?.count ?? 0)
            && parts.reduce(0) { $0 + $1.bytes } <= total && tables.reduce(0) { $0 + $1.rows } <= total
            && (-1...Int(Int32.max)).contains(access?.limit ?? -1) && (90_000...9_999_999).contains(server)
    }
}
