"""What a party keeps on its disk: journal, blobs, secrets, ledger, each with its guards."""
