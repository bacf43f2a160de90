import Catalog
import Foundation
import Postgres
import SQL

/// The properties of a database that its schema catalog (`SchemaCatalog`) does not contain, such as operator classes,
/// security labels and the population of materialized views. Backups compare them in addition to the catalog.
///
/// The attributes are stored in the header of the catalog's text, as JSON on one line.
struct DatabaseAttributes: Sendable, Equatable {
    struct Key: Hashable, Sendable, Comparable {
        /// The kind of the object, for example `operator class`.
        let kind: ExactText
        let object: ExactText
        let property: ExactText

        static func < (left: Key, right: Key) -> Bool {
            (left.kind, left.object, left.property) < (right.kind, right.object, right.property)
        }
    }

    /// The name of the header line in the catalog's text.
    static let note = "attributes"

    private(set) var values: [Key: ExactText] = [:]
    /// Descriptions of what the role that read the attributes may not read.
    private(set) var unread: [String] = []

    init() {}

    mutating func add(_ kind: String, _ object: String, _ property: String, _ value: String) {
        let key = Key(kind: ExactText(kind), object: ExactText(object), property: ExactText(property))
        values[key] = ExactText(value)
    }

    /// Reads the attributes in the open transaction.
    ///
    /// - Throws: `PostgresError`.
    static func read(on connection: isolated Connection) throws -> DatabaseAttributes {
        var result = DatabaseAttributes()
        let version = connection.serverVersion / 10000
        for row in try connection.query(AttributeQuery.all(version)) {
            result.add(try row.get(0), try row.get(1), try row.get(2), try row.get(3))
        }
        // Options and connection strings may contain passwords, so only their digests are stored.
        let isSuperuser = try Confinement.isSuperuser(on: connection)
        if isSuperuser {
            for row in try connection.query(AttributeQuery.secrets) {
                result.add(try row.get(0), try row.get(1), try row.get(2), try row.get(3))
            }
        } else {
            result.unread = [
                "the options of foreign servers, wrappers, tables and columns, user mappings, and the properties of "
                    + "subscriptions, because the role that made the backup is not a superuser"
            ]
        }
        return result
    }

    // MARK: Text

    private struct Stored: Codable {
        var attributes: [[String]]
        var unread: [String]
    }

    /// The attributes as JSON on one line. Equal attributes have equal texts.
    var text: String {
        let rows = values.sorted { $0.key < $1.key }.map {
            [$0.key.kind.text, $0.key.object.text, $0.key.property.text, $0.value.text]
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let data = try? encoder.encode(Stored(attributes: rows, unread: unread))
        return String(decoding: data ?? Data(), as: UTF8.self)
    }

    /// Parses the text; nil if it is invalid.
    init?(_ text: String) {
        guard let stored = try? JSONDecoder().decode(Stored.self, from: Data(text.utf8)),
            stored.attributes.allSatisfy({ $0.count == 4 })
        else { return nil }
        for row in stored.attributes { add(row[0], row[1], row[2], row[3]) }
        unread = stored.unread
    }

    // MARK: Comparison

    /// Returns the differences between these attributes, from a backup, and those of a restored database.
    ///
    /// - Parameter isSameVersion: whether both servers have the same major version. Otherwise, a property that only one
    ///   of them has is not compared, because the other server may not know it.
    func differences(from found: DatabaseAttributes, isSameVersion: Bool) -> [RestoreDifference] {
        // What one side could not read is not compared.
        let isPartial = !unread.isEmpty || !found.unread.isEmpty
        let (values, other) = isPartial ? (readable, found.readable) : (values, found.values)
        func objects(_ values: [Key: ExactText]) -> Set<[ExactText]> { Set(values.keys.map { [$0.kind, $0.object] }) }
        let (here, there) = (objects(values), objects(other))
        // Whole objects that one side lacks have one difference.
        let whole = here.symmetricDifference(there).sorted { $0.lexicographicallyPrecedes($1) }.map {
            RestoreDifference(
                kind: $0[0].text, object: $0[1].text, expected: here.contains($0) ? "present" : "none",
                found: here.contains($0) ? "missing" : "present")
        }
        let keys = Set(values.keys).union(other.keys).filter {
            let object = [$0.kind, $0.object]
            return here.contains(object) && there.contains(object) && values[$0] != other[$0]
                && (isSameVersion || values[$0] != nil && other[$0] != nil)
        }
        return whole
            + keys.sorted().map {
                RestoreDifference(
                    kind: $0.kind.text, object: "\($0.object.text): \($0.property.text)",
                    expected: values[$0]?.text ?? "default", found: other[$0]?.text ?? "default")
            }
    }

    /// The attributes that every role may read: those that `AttributeQuery.secrets` does not return.
    private var readable: [Key: ExactText] {
        values.filter { key, _ in
            key.property != "digest of the options" && key.kind != "user mapping" && key.kind != "subscription"
        }
    }
}
