import Catalog
import Foundation
import Hashing
import Postgres
import SQL

/// The description of a backup: its parts, and the values that a restored database is compared with. A backup without a
/// manifest does not exist.
public struct Manifest: Codable, Sendable, Equatable {
    public static let format = 2

    public struct Table: Codable, Sendable, Equatable {
        public let schema: String
        public let name: String
        public let rows: Int
        /// The fingerprint of the contents at the backup's snapshot.
        public let digest: String
        /// A digest of the names and types of the columns.
        public let definition: String
        /// Whether the fingerprint was computed from the output of COPY, not by a query. This is so for tables that may
        /// only be read by COPY. nil means false.
        public var isOfCopy: Bool?
        /// The topmost partitioned table, if OIDs of the server decide which partition a row belongs to
        /// (`DatabaseContent.Relation.root`); otherwise nil.
        public var root: String?

        var path: String { ObjectIdentity(.table, schema: schema, name).description }
    }

    /// The value of a sequence. It is read after the snapshot was taken, so that the restored sequence does not return
    /// a number that a restored row already has.
    public struct Sequence: Codable, Sendable, Equatable {
        public let schema: String
        public let name: String
        public let value: Int64
        public let isCalled: Bool
    }

    public struct LargeObjects: Codable, Sendable, Equatable {
        public let count: Int
        public let digest: String
    }

    public struct Part: Codable, Sendable, Equatable {
        public enum Kind: String, Codable, Sendable {
            case roles, before, data, sequences, largeObjects, after, catalog
        }

        public let kind: Kind
        /// The name of the object in the repository. If the part has not changed since an earlier backup, this is an
        /// object of that backup.
        public let object: String
        /// The tables whose rows the part contains.
        public let tables: [String]
        public let bytes: Int
        /// SHA-256 of the object as it is stored.
        public let sha256: String
        /// If the part contains only a slice of the rows of a table, the pages of that slice; nil if it contains all
        /// rows of its tables.
        public var slice: Slice?

        init(kind: Kind, tables: [String] = [], slice: Slice? = nil) {
            self.init(kind, object: "", tables, bytes: 0, sha256: "", slice)
        }

        private init(_ kind: Kind, object: String, _ tables: [String], bytes: Int, sha256: String, _ slice: Slice?) {
            self.kind = kind
            self.object = object
            self.tables = tables
            self.bytes = bytes
            self.sha256 = sha256
            self.slice = slice
        }

        func stored(as object: String, bytes: Int, sha256: String) -> Part {
            Part(kind, object: object, tables, bytes: bytes, sha256: sha256, slice)
        }

        /// A range of pages of a large table, stored as a `COPY` script for psql.
        public struct Slice: Codable, Sendable, Equatable {
            public let firstPage: Int
            /// The page after the last one; nil: the end of the table.
            public let endPage: Int?
            public let rows: Int
            public let digest: String
        }
    }

    public let format: Int
    public let id: String
    public let database: String
    /// The database's name on its server.
    public let source: String
    public let reeve: String
    /// The server's version, as `server_version_num`.
    public let server: Int
    public let pgDump: String
    public let snapshot: String
    public let wal: String?
    public let startedAt: String
    public var finishedAt: String
    /// The age recipients that can decrypt the backup; empty: it is not encrypted.
    public var recipients: [String]
    public let tables: [Table]
    public let sequences: [Sequence]
    /// The number and the fingerprint of the large objects; nil if the role that made the backup may not read them.
    public let largeObjects: LargeObjects?
    /// The versions of the extensions, by name.
    public let extensions: [String: String]
    public let tablespaces: [String]
    /// The roles that own objects or have privileges in the database.
    public let neededRoles: [String]
    public let locale: DatabaseLocale
    /// The size of the source database when it was backed up, in bytes, as `pg_database_size` returns it.
    public let databaseBytes: Int
    /// SHA-256 of the text of the part of kind `catalog`, which contains the definitions of all objects.
    public let catalog: String
    /// The settings of ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET, as statements in which `%database%` is
    /// the placeholder for the name of the database.
    public let settings: [String]
    /// The roles of the source server with their attributes and memberships, one line each.
    public let roles: [String]
    public var parts: [Part]
    /// A digest of the random identifier of the source database's ledger. The digest shows which database was backed
    /// up. nil if the database has no ledger, and in manifests of earlier versions of Reeve.
    public var estate: String?
    /// The owner, the connection limit and the privileges of the database; nil in manifests of earlier versions of
    /// Reeve.
    public var access: DatabaseAccess?
    /// The server and the database that were backed up; nil in manifests of earlier versions of Reeve.
    public var origin: Origin?
    /// The backup before this one; nil for the first backup, and in manifests of earlier versions of Reeve.
    public var previous: Link?

    /// The size in bytes of the parts that this backup has written itself. Parts of earlier backups that it refers to
    /// are not counted.
    public var ownBytes: Int { parts.filter { $0.object.hasPrefix("\(prefix)/") }.reduce(0) { $0 + $1.bytes } }
    public var bytes: Int { parts.reduce(0) { $0 + $1.bytes } }

    /// Estimates how many bytes these tables and their indexes take up in the database: the size of the database, times
    /// the fraction of all data bytes in the backup that is in the parts of these tables. Other tables in the same
    /// parts are counted, too.
    func estimatedBytes(of tables: Set<FetchedTable>) -> Int {
        let paths = Set(tables.map { ExactText($0.path) })
        let data = parts.filter { $0.kind == .data }
        let all = data.reduce(0) { $0 + $1.bytes }
        let wanted = data.filter { !paths.isDisjoint(with: $0.tables.map(ExactText.init)) }.reduce(0) { $0 + $1.bytes }
        return all > 0 ? Int((Double(databaseBytes) * Double(wanted) / Double(all)).rounded(.up)) : 0
    }

    /// The time at which the backup was begun. Its ID contains the same time in whole seconds.
    public var began: Timestamp { (try? Timestamp.fromPostgres(startedAt)) ?? .negativeInfinity }

    var prefix: String { "\(database)/\(id)" }
    static let name = "manifest.json"
}
