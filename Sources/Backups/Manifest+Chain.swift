import Foundation
import Hashing
import Ledger
import Postgres

/// The chain of the backups of a database, and the database that they belong to.
extension Manifest {
    /// Returns the time at which a backup was begun, in whole seconds, from an ID such as `20261123T031500Z-1a2b3c4d`;
    /// nil if the ID has another form.
    static func time(ofID id: String) -> Timestamp? {
        let digits = id.prefix(16).filter(\.isNumber)
        guard id.utf8.count > 16, digits.utf8.count == 14, digits.allSatisfy(\.isASCII) else { return nil }
        func part(_ from: Int, _ count: Int) -> Substring { digits.dropFirst(from).prefix(count) }
        return try? Timestamp.fromPostgres(
            "\(part(0, 4))-\(part(4, 2))-\(part(6, 2))T\(part(8, 2)):\(part(10, 2)):\(part(12, 2))Z")
    }

    /// The backup that was the newest one when another was made.
    public struct Link: Codable, Sendable, Equatable {
        public let id: String
        /// `ManifestContent.digest` of its manifest.
        public let content: String
    }

    /// The server and the database that a backup was made of.
    ///
    /// A copy of a database has the same ledger, and therefore the same `estate`. The copy is told apart by these.
    public struct Origin: Codable, Sendable, Equatable {
        /// The server's system identifier, which SQL cannot change; nil if the role may not read it.
        public let system: String?
        /// The OID of the database. `ALTER DATABASE … RENAME` does not change it.
        public let database: Int

        /// Reads the origin of the current database.
        public static func read(on connection: isolated Connection) throws -> Origin {
            let oid: Int =
                try connection.query(
                    "SELECT oid::pg_catalog.int8 FROM pg_catalog.pg_database WHERE datname = "
                        + "pg_catalog.current_database()"
                ).first?.get(0) ?? 0
            return Origin(system: try ServerIdentity.systemIdentifier(on: connection), database: oid)
        }

        /// Whether both can be the same database. A system identifier that could not be read is not compared.
        func isSame(as other: Origin) -> Bool {
            let systems = [system, other.system].compactMap { $0 }
            return database == other.database && Set(systems).count < 2
        }
    }
}

/// The digest of what a manifest says about a backup, without the fields that a change of keys modifies: the
/// recipients, and the objects in which the parts are stored. So a change of keys does not break the chain, and any
/// other change of a manifest does. Pure: no I/O.
///
/// The stored JSON is read, and not the decoded manifest: a field that this version does not know counts too.
enum ManifestContent {
    /// - Parameter body: the line of JSON of a manifest.
    static func digest(of body: [UInt8]) throws -> String {
        let value = try JSONSerialization.jsonObject(with: Data(body))
        var digest = Digest()
        add(value, at: [], to: &digest)
        return Digest.hex(digest.finish())
    }

    private static let leftOut: Set<[String]> = [
        ["recipients"], ["parts", "object"], ["parts", "bytes"], ["parts", "sha256"],
    ]
    /// The arrays whose elements have no order.
    private static let sets: Set<[String]> = [["access", "grants"]]

    /// Adds a value with its kind and its length, so that different values never add the same bytes.
    private static func add(_ value: Any, at path: [String], to digest: inout Digest) {
        switch value {
        case let object as [String: Any]:
            let keys = object.keys.filter { !leftOut.contains(path + [$0]) }
                .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            digest.update("object \(keys.count)\n".utf8)
            for key in keys {
                add(key, at: [], to: &digest)
                add(object[key] ?? NSNull(), at: path + [key], to: &digest)
            }
        case let array as [Any]:
            digest.update("array \(array.count)\n".utf8)
            guard sets.contains(path) else {
                for one in array { add(one, at: path, to: &digest) }
                return
            }
            let elements = array.map { one in
                var element = Digest()
                add(one, at: path, to: &element)
                return Digest.hex(element.finish())
            }
            for one in elements.sorted() { digest.update(one.utf8) }
        case let text as String:
            digest.update("text \(text.utf8.count)\n".utf8)
            digest.update(text.utf8)
        default: digest.update("value \(value)\n".utf8)
        }
    }
}
