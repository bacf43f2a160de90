import Foundation

extension RepositoryKind {
    /// A repository in a folder. Its address is a path, or `file:///PATH` with percent-encoding (RFC 8089).
    static let folder = RepositoryKind(scheme: "file", forms: ["a folder", "file:///FOLDER"]) {
        text throws(StorageError) in
        try FolderLocation(uri: text)
    }
}

/// The path of a folder as it is written in the address.
struct FolderLocation: RepositoryLocation {
    let path: String

    var place: String { path }

    init(path: String) { self.path = path }

    /// - Throws: `StorageError.badLocation`.
    init(uri: String) throws(StorageError) {
        let start = "file://"
        guard uri.lowercased().hasPrefix("\(start)/") else {
            throw RepositoryAddress.refusal(
                of: uri, "it is not of the form file:///FOLDER, with an absolute path and no host")
        }
        guard !uri.contains(where: { $0 == "?" || $0 == "#" }) else {
            throw RepositoryAddress.refusal(of: uri, "it has a query or a fragment; write %3F for '?' and %23 for '#'")
        }
        guard let path = String(uri.dropFirst(start.count)).removingPercentEncoding, !path.utf8.contains(0) else {
            throw RepositoryAddress.refusal(of: uri, "its percent-encoding is not valid")
        }
        self.path = path
    }

    func store(_ surroundings: RepositoryAddress.Surroundings) throws(StorageError) -> any ObjectStore {
        FolderStore(surroundings.resolve(path))
    }
}
