/// Names of objects: paths below a store's root. Some come from manifests, which are other people's data. Pure.
public enum ObjectName {
    /// Longer ones S3 does not take.
    private static let longest = 1024

    /// Whether it names something below the root, and nothing else, wherever it is used: `a/b` and no `..`, no empty part,
    /// no control character.
    public static func isValid(_ name: String) -> Bool {
        guard !name.isEmpty, name.utf8.count <= longest else { return false }
        guard !name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else { return false }
        return name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy { part in
            !part.isEmpty && !part.elementsEqual(".".utf8) && !part.elementsEqual("..".utf8)
        }
    }

    /// - Throws: `StorageError.badName`.
    public static func check(_ name: String) throws {
        guard isValid(name) else { throw StorageError.badName(name) }
    }
}
